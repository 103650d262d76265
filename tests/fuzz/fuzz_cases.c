/* Cases in words, as the command line, rows and reports write them. What is accepted is written by the
 * library as it is read: the words of a case make the same case. */
#include "catalogue/case.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { LONGEST = 4096 };
    static char text[LONGEST], words[2048], again[2048];
    fovea_case c, copy;
    fovea_message message;
    if (size < 2 || size > LONGEST) return 0;
    int kernel = (data[0] << 8 | data[1]) % fovea_catalogue_count();
    memcpy(text, data + 2, size - 2);
    text[size - 2] = 0;
    fovea_case_begin(&c, kernel);
    if (fovea_case_parse(&c, text, 1000, &message) != FOVEA_OK) return 0;
    fovea_case_text(&c, words, sizeof words);
    fovea_case_begin(&copy, kernel);
    if (fovea_case_parse(&copy, words, 0, &message) != FOVEA_OK) {
        fprintf(stderr, "«%s» is refused: %s\n", words, message.text);
        abort();
    }
    fovea_case_text(&copy, again, sizeof again);
    if (strcmp(words, again) != 0) {
        fprintf(stderr, "«%s» becomes «%s»\n", words, again);
        abort();
    }
    (void)fovea_case_complete(&c, &message);
    return 0;
}
