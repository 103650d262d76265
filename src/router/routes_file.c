/* Routes files: reading, which refuses whatever is not exactly right, and writing in one step. The
 * format stands in routes.h. */
#define _GNU_SOURCE
#include "router/identity.h"
#include "router/routes.h"
#include "runtime/output.h"
#include "runtime/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 512, FIELDS = 11 };
static const char first_line[] = "fovea-routes 1";

/* ---- Reading -------------------------------------------------------------------------------- */

typedef struct reader {
    const char *name, *at, *end; /* end: where the line «end» begins */
    int line;
    fovea_message *message;
    char text[LINE_MAX_BYTES]; /* the present line */
} reader;

__attribute__((format(printf, 2, 3))) static fovea_status refuse(const reader *r,
                                                                 const char *format, ...) {
    char why[FOVEA_MESSAGE_SIZE];
    va_list values;
    va_start(values, format);
    vsnprintf(why, sizeof why, format, values);
    va_end(values);
    return fovea_fail(r->message, FOVEA_FILE_ERROR, "the routes file %.200s %s", r->name, why);
}

static fovea_status next_line(reader *r) {
    size_t left = (size_t)(r->end - r->at);
    const char *stop = memchr(r->at, '\n', left);
    r->line++;
    if (!stop) return refuse(r, "is truncated: line %d has no end", r->line);
    size_t length = (size_t)(stop - r->at);
    if (length >= sizeof r->text)
        return refuse(r, "has %zu bytes in line %d; at most %zu are allowed", length, r->line,
                      sizeof r->text - 1);
    for (size_t i = 0; i < length; i++)
        if (r->at[i] < ' ' || r->at[i] > '~')
            return refuse(r, "has a byte %d in line %d, which is not text", (unsigned char)r->at[i],
                          r->line);
    memcpy(r->text, r->at, length);
    r->text[length] = 0;
    r->at = stop + 1;
    return FOVEA_OK;
}

/* A whole number without sign or leading zeros, as the writer prints it. */
static bool parse_number(const char *text, uint64_t limit, uint64_t *number) {
    *number = 0;
    if (!*text || (*text == '0' && text[1])) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (*number > (limit - digit) / 10) return false;
        *number = *number * 10 + digit;
    }
    return *number <= limit;
}

static bool parse_hexadecimal(const char *text, size_t digits, uint64_t *number) {
    *number = 0;
    if (strlen(text) != digits) return false;
    for (; *text; text++) {
        int digit = *text >= '0' && *text <= '9'   ? *text - '0'
                    : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
                                                   : -1;
        if (digit < 0) return false;
        *number = *number << 4 | (unsigned)digit;
    }
    return true;
}

/* Cuts the line at single spaces; false if there are not exactly that many fields. */
static bool split(char *text, char *fields[], int count) {
    for (int i = 0; i < count; i++) {
        fields[i] = text;
        if (!*text || *text == ' ') return false;
        text += strcspn(text, " ");
        if (i + 1 < count && !*text) return false;
        if (*text)
            *text++ = 0;
        else if (i + 1 == count)
            return true;
    }
    return false;
}

static fovea_status check_first_line(reader *r, size_t length) {
    size_t size = sizeof first_line - 1;
    if (length == 0) return refuse(r, "is empty");
    if (length > FOVEA_ROUTES_FILE_MAX)
        return refuse(r, "has %zu bytes; at most %d are read", length, FOVEA_ROUTES_FILE_MAX);
    if (length > size && memcmp(r->at, first_line, size) == 0 && r->at[size] == '\n')
        return next_line(r);
    if (length > size && memcmp(r->at, first_line, size - 1) == 0)
        return refuse(r, "has another format than «%s», which this version reads", first_line);
    return refuse(r, "is not a routes file: it does not begin with «%s»", first_line);
}

/* The last line: how many routes, and the checksum of all before it. Sets r->end. */
static fovea_status check_last_line(reader *r, const char *text, size_t length, int *count) {
    char line[64], *fields[3];
    uint64_t number, checksum;
    const char *last = text[length - 1] == '\n' ? memrchr(text, '\n', length - 1) : NULL;
    size_t size = last ? (size_t)(text + length - 1 - ++last) : 0;
    if (!last || size >= sizeof line) return refuse(r, "is truncated: it has no last line «end»");
    memcpy(line, last, size);
    line[size] = 0;
    if (!split(line, fields, 3) || strcmp(fields[0], "end") != 0)
        return refuse(r, "is truncated: it has no last line «end»");
    if (!parse_number(fields[1], UINT64_MAX, &number) ||
        !parse_hexadecimal(fields[2], 16, &checksum))
        return refuse(r, "has a malformed last line");
    size_t covered = (size_t)(last - text) + (size_t)(fields[2] - line);
    if (fovea_hash(FOVEA_HASH_START, text, covered) != checksum)
        return refuse(r, "is damaged: its checksum does not match its content");
    if (number > FOVEA_ROUTES_MAX)
        return refuse(r, "announces %llu routes; at most %d are read", (unsigned long long)number,
                      FOVEA_ROUTES_MAX);
    *count = (int)number;
    r->end = last;
    return FOVEA_OK;
}

static fovea_status check_identity(reader *r) {
    fovea_identity here;
    fovea_identity_get(&here);
    for (int i = 0; i < FOVEA_IDENTITY_LINES; i++) {
        fovea_status status = next_line(r);
        if (status != FOVEA_OK) return status;
        if (strcmp(r->text, here.lines[i]) == 0) continue;
        return refuse(r,
                      "was made elsewhere: it says «%.120s», here it is «%.120s»; measure again "
                      "with fovea tune",
                      r->text, here.lines[i]);
    }
    return FOVEA_OK;
}

/* A line that only files of a device have. */
static fovea_status read_device(reader *r, fovea_routes *routes) {
    static const char word[] = "device ";
    size_t length = sizeof word - 1;
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return FOVEA_OK;
    fovea_status status = next_line(r);
    if (status != FOVEA_OK) return status;
    if (!r->text[length] || strlen(r->text + length) >= sizeof routes->device)
        return refuse(r, "names no device in line %d", r->line);
    snprintf(routes->device, sizeof routes->device, "%s", r->text + length);
    return FOVEA_OK;
}

static fovea_status read_written(reader *r, fovea_routes *routes) {
    static const char form[] = "written 0000-00-00T00:00:00Z";
    fovea_status status = next_line(r);
    if (status != FOVEA_OK) return status;
    bool right = strlen(r->text) == sizeof form - 1;
    for (size_t i = 0; right && form[i]; i++)
        right = form[i] == '0' ? r->text[i] >= '0' && r->text[i] <= '9' : r->text[i] == form[i];
    if (!right) return refuse(r, "has no time of writing in line %d", r->line);
    snprintf(routes->written, sizeof routes->written, "%.20s", r->text + 8);
    return FOVEA_OK;
}

static fovea_status read_rate(reader *r, fovea_routes *routes) {
    char *fields[4];
    fovea_tier tier;
    uint64_t flops, bandwidth;
    const uint64_t limit = UINT64_C(1000000000000000);
    if (!split(r->text, fields, 4) || !fovea_tier_parse(fields[1], &tier) ||
        !parse_number(fields[2], limit, &flops) || !parse_number(fields[3], limit, &bandwidth))
        return refuse(r, "has a malformed rate in line %d", r->line);
    if (routes->rates.flops[tier] > 0 || routes->rates.bandwidth[tier] > 0)
        return refuse(r, "has the rate of %s twice (line %d)", fovea_tier_name(tier), r->line);
    routes->rates.flops[tier] = (double)flops;
    routes->rates.bandwidth[tier] = (double)bandwidth;
    return FOVEA_OK;
}

static bool parse_sizes(char *text, uint8_t *sizes) {
    for (int i = 0; i < FOVEA_TRAIT_SIZES; i++) {
        uint64_t size;
        char *comma = strchr(text, ',');
        if (!comma != (i + 1 == FOVEA_TRAIT_SIZES)) return false;
        if (comma) *comma = 0;
        if (!parse_number(text, UINT8_MAX, &size)) return false;
        sizes[i] = (uint8_t)size;
        if (comma) text = comma + 1;
    }
    return true;
}

static int implementation_number(int kernel, const char *name) {
    for (int i = 0; i < fovea_implementation_count(kernel); i++)
        if (strcmp(fovea_implementation_at(kernel, i)->name, name) == 0) return i;
    return -1;
}

static fovea_status read_wrong(reader *r, fovea_routes *routes) {
    char *fields[3];
    if (!split(r->text, fields, 3))
        return refuse(r, "has a malformed line %d: it has 3 fields", r->line);
    int kernel = fovea_catalogue_find(fields[1]);
    int number = kernel < 0 ? -1 : implementation_number(kernel, fields[2]);
    if (number < 0)
        return refuse(
            r, "names the implementation «%.40s» of «%.40s» in line %d, which does not exist",
            fields[2], fields[1], r->line);
    if (fovea_routes_condemned(routes, kernel, number))
        return refuse(r, "has a duplicate in line %d", r->line);
    fovea_routes_condemn(routes, kernel, number);
    return FOVEA_OK;
}

static fovea_status read_pace(reader *r, fovea_routes *routes) {
    const uint64_t longest = UINT64_C(1000000000000); /* 11 days, in microseconds */
    char *fields[4];
    uint64_t foreseen, taken;
    int kernel = -1;
    if (split(r->text, fields, 4)) kernel = fovea_catalogue_find(fields[1]);
    if (kernel < 0 || !parse_number(fields[2], longest, &foreseen) || foreseen == 0 ||
        !parse_number(fields[3], longest, &taken))
        return refuse(r, "has a malformed pace in line %d", r->line);
    if (routes->paces[kernel].foreseen > 0)
        return refuse(r, "has the pace of %s twice (line %d)", fields[1], r->line);
    routes->paces[kernel] = (fovea_pace){1e-6 * (double)foreseen, 1e-6 * (double)taken};
    return FOVEA_OK;
}

static fovea_status read_route(reader *r, const fovea_routes *routes, fovea_route_record *record) {
    enum { KERNEL = 1, DTYPE, THREADS, FEATURES, SIZES, WORK, NAME, MEDIAN, DEVIATION, SAMPLES };
    const uint64_t longest = UINT64_C(1000000000000000000); /* 11 days, in picoseconds */
    char *fields[FIELDS];
    uint64_t threads, features, samples;
    *record = (fovea_route_record){0};
    fovea_route_key *key = &record->key;
    if (!split(r->text, fields, FIELDS))
        return refuse(r, "has a malformed route in line %d: it has %d fields", r->line, FIELDS);
    if ((key->kernel = fovea_catalogue_find(fields[KERNEL])) < 0)
        return refuse(r, "names the kernel «%.40s» in line %d, which does not exist",
                      fields[KERNEL], r->line);
    if (!fovea_dtype_parse(fields[DTYPE], &key->dtype))
        return refuse(r, "names the dtype «%.40s» in line %d, which does not exist", fields[DTYPE],
                      r->line);
    record->number = implementation_number(key->kernel, fields[NAME]);
    if (record->number < 0)
        return refuse(r, "names the implementation «%.40s» in line %d, which %s does not have",
                      fields[NAME], r->line, fields[KERNEL]);
    if (fovea_implementation_at(key->kernel, record->number)->only_by_name)
        return refuse(r, "routes to %.40s in line %d, which is used only when asked for by name",
                      fields[NAME], r->line);
    if (fovea_routes_condemned(routes, key->kernel, record->number))
        return refuse(r, "routes to %.40s in line %d, which it calls wrong", fields[NAME], r->line);
    if (!parse_number(fields[THREADS], FOVEA_THREADS_MAX, &threads) || threads < 1 ||
        !parse_hexadecimal(fields[FEATURES], 8, &features) ||
        !parse_sizes(fields[SIZES], key->sizes) ||
        !parse_number(fields[WORK], INT64_MAX, &record->work))
        return refuse(r, "has a malformed key in line %d", r->line);
    if (!parse_number(fields[MEDIAN], longest, &record->median) || record->median == 0 ||
        !parse_number(fields[DEVIATION], longest, &record->deviation))
        return refuse(r,
                      "has times «%.40s» and «%.40s» in line %d; they are picoseconds, whole "
                      "numbers, and the first is not 0",
                      fields[MEDIAN], fields[DEVIATION], r->line);
    if (!parse_number(fields[SAMPLES], UINT32_MAX, &samples) || samples < 1)
        return refuse(r, "has no count of samples in line %d", r->line);
    key->threads = (int32_t)threads;
    key->features = (uint32_t)features;
    record->samples = (uint32_t)samples;
    return FOVEA_OK;
}

/* Appends a record, which must follow the last one and be of another implementation than those of
 * the same key. */
static fovea_status append(reader *r, fovea_routes *routes, const fovea_route_record *record) {
    int count = routes->count;
    for (int i = count - 1; i >= 0; i--) {
        if (fovea_route_key_compare(&routes->records[i].key, &record->key) != 0) break;
        if (routes->records[i].number == record->number)
            return refuse(r, "has a duplicate in line %d", r->line);
    }
    if (count > 0 && !fovea_route_record_before(&routes->records[count - 1], record))
        return refuse(r, "is out of order in line %d", r->line);
    if (count == routes->capacity) return refuse(r, "has more routes than it announces");
    routes->records[routes->count++] = *record;
    return FOVEA_OK;
}

static fovea_status read_body(reader *r, fovea_routes *routes) {
    fovea_route_record record;
    fovea_status status = read_device(r, routes);
    if (status == FOVEA_OK) status = read_written(r, routes);
    while (status == FOVEA_OK && r->at < r->end) {
        if ((status = next_line(r)) != FOVEA_OK) break;
        if (routes->count == 0 && strncmp(r->text, "rate ", 5) == 0)
            status = read_rate(r, routes);
        else if (routes->count == 0 && strncmp(r->text, "wrong ", 6) == 0)
            status = read_wrong(r, routes);
        else if (routes->count == 0 && strncmp(r->text, "pace ", 5) == 0)
            status = read_pace(r, routes);
        else if (strncmp(r->text, "route ", 6) != 0)
            status = refuse(r, "has an unknown line %d: «%.40s»", r->line, r->text);
        else if ((status = read_route(r, routes, &record)) == FOVEA_OK)
            status = append(r, routes, &record);
    }
    return status;
}

fovea_status fovea_routes_parse(const char *name, const char *text, size_t length, int spare,
                                const fovea_allocator *allocator, fovea_routes **routes,
                                fovea_message *message) {
    reader r = {.name = name, .at = text, .end = text + length, .message = message};
    int count = 0;
    *routes = NULL;
    fovea_status status = check_first_line(&r, length);
    if (status == FOVEA_OK) status = check_last_line(&r, text, length, &count);
    if (status == FOVEA_OK) status = check_identity(&r);
    if (status != FOVEA_OK) return status;
    fovea_routes *made = fovea_routes_create(allocator, count + spare);
    if (!made)
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for %d routes", count + spare);
    made->capacity = count;
    status = read_body(&r, made);
    if (status == FOVEA_OK && made->count != count)
        status = refuse(&r, "announces %d routes and has %d", count, made->count);
    made->capacity = count + spare;
    if (status != FOVEA_OK)
        fovea_routes_release(made);
    else
        *routes = made;
    return status;
}

static fovea_status read_all(int file, char *text, size_t size, const reader *r) {
    while (size > 0) {
        ssize_t got = read(file, text, size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return refuse(r, "cannot be read: %s", strerror(errno));
        if (got == 0) return refuse(r, "became shorter while it was read");
        text += got, size -= (size_t)got;
    }
    return FOVEA_OK;
}

fovea_status fovea_routes_read(const char *path, int spare, const fovea_allocator *allocator,
                               fovea_routes **routes, fovea_message *message) {
    reader r = {.name = path, .message = message};
    struct stat facts;
    char *text = NULL;
    size_t size = 0;
    *routes = NULL;
    /* Without waiting: a pipe at that path must not stop the program. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 && errno == ENOENT) return refuse(&r, "does not exist; `fovea tune` makes it");
    if (file < 0) return refuse(&r, "cannot be opened: %s", strerror(errno));
    fovea_status status = FOVEA_OK;
    if (fstat(file, &facts) != 0)
        status = refuse(&r, "cannot be read: %s", strerror(errno));
    else if (!S_ISREG(facts.st_mode))
        status = refuse(&r, "is not a regular file");
    else if (facts.st_size > FOVEA_ROUTES_FILE_MAX)
        status = refuse(&r, "has %lld bytes; at most %d are read", (long long)facts.st_size,
                        FOVEA_ROUTES_FILE_MAX);
    if (status == FOVEA_OK) {
        size = (size_t)facts.st_size;
        text = allocator->allocate(allocator->user, size + 1, FOVEA_ALIGNMENT);
        if (!text)
            status = fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory to read %.200s", path);
    }
    if (status == FOVEA_OK) status = read_all(file, text, size, &r);
    close(file);
    if (status == FOVEA_OK)
        status = fovea_routes_parse(path, text, size, spare, allocator, routes, message);
    if (text) allocator->release(allocator->user, text, size + 1);
    return status;
}

/* ---- Writing -------------------------------------------------------------------------------- */

typedef struct writer {
    FILE *stream;
    int error; /* of a line that is too long */
    uint64_t checksum;
} writer;

__attribute__((format(printf, 2, 3))) static void print(writer *w, const char *format, ...) {
    char text[LINE_MAX_BYTES];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (length < 0 || length >= LINE_MAX_BYTES) {
        w->error = EMSGSIZE;
        return;
    }
    w->checksum = fovea_hash(w->checksum, text, (size_t)length);
    fwrite(text, 1, (size_t)length, w->stream);
}

static void print_record(writer *w, const fovea_route_record *record) {
    const fovea_route_key *key = &record->key;
    print(w, "route %s %s %d %08x ", fovea_catalogue_kernel(key->kernel)->name,
          fovea_dtype_name(key->dtype), key->threads, key->features);
    for (int i = 0; i < FOVEA_TRAIT_SIZES; i++) print(w, "%s%d", i ? "," : "", key->sizes[i]);
    print(w, " %llu %s %llu %llu %u\n", (unsigned long long)record->work,
          fovea_implementation_at(key->kernel, record->number)->name,
          (unsigned long long)record->median, (unsigned long long)record->deviation,
          record->samples);
}

static void print_all(writer *w, const fovea_routes *routes) {
    fovea_identity here;
    char written[24];
    time_t seconds = time(NULL);
    struct tm when;
    fovea_identity_get(&here);
    gmtime_r(&seconds, &when);
    strftime(written, sizeof written, "%Y-%m-%dT%H:%M:%SZ", &when);
    print(w, "%s\n", first_line);
    for (int i = 0; i < FOVEA_IDENTITY_LINES; i++) print(w, "%s\n", here.lines[i]);
    if (*routes->device) print(w, "device %s\n", routes->device);
    print(w, "written %s\n", written);
    for (int t = 0; t < FOVEA_TIER_COUNT; t++)
        if (routes->rates.flops[t] > 0 || routes->rates.bandwidth[t] > 0)
            print(w, "rate %s %.0f %.0f\n", fovea_tier_name((fovea_tier)t), routes->rates.flops[t],
                  routes->rates.bandwidth[t]);
    for (int k = 0; k < fovea_catalogue_count(); k++)
        for (uint64_t rest = routes->wrong[k]; rest; rest &= rest - 1)
            print(w, "wrong %s %s\n", fovea_catalogue_kernel(k)->name,
                  fovea_implementation_at(k, __builtin_ctzll(rest))->name);
    for (int k = 0; k < fovea_catalogue_count(); k++)
        if (routes->paces[k].foreseen >= 1e-6)
            print(w, "pace %s %.0f %.0f\n", fovea_catalogue_kernel(k)->name,
                  1e6 * routes->paces[k].foreseen, 1e6 * routes->paces[k].taken);
    for (int i = 0; i < routes->count; i++) print_record(w, &routes->records[i]);
    print(w, "end %d ", routes->count);
    print(w, "%016llx\n", (unsigned long long)w->checksum);
}

/* Makes the directories above a path; an error shows when the file is opened. */
static void make_directories(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
}

fovea_status fovea_routes_write(const char *path, const fovea_routes *routes,
                                fovea_message *message) {
    char directories[PATH_MAX];
    fovea_output output;
    if (snprintf(directories, sizeof directories, "%s", path) < (int)sizeof directories)
        make_directories(directories);
    fovea_status status = fovea_output_open(path, &output, message);
    if (status != FOVEA_OK) return status;
    writer w = {.stream = output.stream, .checksum = FOVEA_HASH_START};
    print_all(&w, routes);
    return fovea_output_close(&output, w.error, message);
}
