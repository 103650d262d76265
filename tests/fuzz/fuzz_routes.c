/* Routes files from a fuzzer. The first byte says how hostile the file is: as it comes; behind a right
 * header; with a right last line besides, so that the body is reached too; and with the time of writing
 * before it. What is accepted must be sorted and must choose without harm. */
#include "catalogue/case.h"
#include "router/choose.h"
#include "router/identity.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void exercise(const fovea_routes *routes) {
    static fovea_case c;
    static fovea_sample sample;
    static bool made;
    fovea_message message;
    fovea_choice choice;
    if (!made) {
        fovea_case_begin(&c, fovea_catalogue_find("map_add"));
        fovea_case_parse(&c, "n=1024", 0, &message);
        if (fovea_sample_create(&c, NULL, &sample, &message) != FOVEA_OK) abort();
        made = true;
    }
    for (int i = 1; i < routes->count; i++)
        if (!fovea_route_record_before(&routes->records[i - 1], &routes->records[i])) abort();
    fovea_choose(&sample.problem, routes, 2, &choice);
    if (choice.implementation && choice.implementation->only_by_name) abort();
}

/* How many lines are routes. */
static int routes_of(const char *text, size_t size) {
    static const char word[] = "route ";
    int count = 0;
    for (size_t i = 0; i + sizeof word <= size; i++)
        count += memcmp(text + i, word, sizeof word - 1) == 0 && (i == 0 || text[i - 1] == '\n');
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fovea_allocator allocator = fovea_default_allocator();
    static fovea_identity here; /* reading it takes longer than all the rest */
    fovea_message message;
    fovea_routes *routes;
    if (size == 0) return 0;
    if (!here.lines[0][0]) fovea_identity_get(&here);
    int kind = *data++ % 4;
    size--;
    char *text = malloc(size + 4096);
    size_t length = 0;
    if (kind > 0) {
        length += (size_t)sprintf(text, "fovea-routes 1\n");
        for (int i = 0; i < FOVEA_IDENTITY_LINES; i++)
            length += (size_t)sprintf(text + length, "%s\n", here.lines[i]);
        if (kind == 3) length += (size_t)sprintf(text + length, "written 2026-01-31T12:00:00Z\n");
    }
    memcpy(text + length, data, size);
    length += size;
    if (kind >= 2) {
        if (size > 0 && text[length - 1] != '\n') text[length++] = '\n';
        length += (size_t)sprintf(text + length, "end %d ", routes_of((const char *)data, size));
        uint64_t hash = fovea_hash(FOVEA_HASH_START, text, length);
        length += (size_t)sprintf(text + length, "%016llx\n", (unsigned long long)hash);
    }
    text = realloc(text, length ? length : 1);
    if (fovea_routes_parse("fuzz", text, length, 0, &allocator, &routes, &message) == FOVEA_OK)
        exercise(routes);
    fovea_routes_release(routes);
    free(text);
    return 0;
}
