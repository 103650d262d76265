/* Views: what is refused, what overlaps, and how dimensions collapse. */
#include "runtime/view.h"

#include "tensors.h"
#include "test.h"

#include <stdio.h>

static fovea_message message;

static fovea_view view_of(DLTensor tensor) {
    fovea_view view;
    assert_int_equal(fovea_view_from_tensor(&tensor, "x", &view, &message), FOVEA_OK);
    return view;
}

static void assert_refused(DLTensor tensor, const char *sentence) {
    fovea_view view;
    assert_int_equal(fovea_view_from_tensor(&tensor, "x", &view, &message), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(message.text, sentence);
}

static float data[256];

static void describes_dense_tensors_without_strides(void **state) {
    (void)state;
    fovea_view view = view_of(TENSOR(data, FOVEA_F32, 2, 3, 4));
    assert_int_equal(view.stride[0], 12);
    assert_int_equal(view.stride[1], 4);
    assert_int_equal(view.stride[2], 1);
    assert_true(fovea_view_is_contiguous(&view));
    assert_int_equal(fovea_view_elements(&view), 24);
}

static void honours_byte_offset_and_negative_strides(void **state) {
    (void)state;
    for (int i = 0; i < 256; i++) data[i] = (float)i;
    DLTensor tensor = TENSOR(data, FOVEA_F32, 3, 2);
    tensor.strides = STRIDES(-10, 1);
    tensor.byte_offset = 30 * sizeof(float);
    fovea_view view = view_of(tensor);
    const double expected[] = {30, 31, 20, 21, 10, 11};
    for (int i = 0; i < 6; i++) assert_true(fovea_view_read(&view, i) == expected[i]);
}

static void refuses_what_is_no_tensor(void **state) {
    (void)state;
    fovea_view view;
    assert_int_equal(fovea_view_from_tensor(NULL, "x", &view, &message), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(message.text, "x is NULL");
    assert_refused(TENSOR(NULL, FOVEA_F32, 2), "x has no data (NULL)");
    DLTensor tensor = TENSOR(data, FOVEA_F32, 2);
    tensor.shape = NULL;
    assert_refused(tensor, "x has no shape (NULL)");
    tensor = TENSOR(data, FOVEA_F32, 2);
    tensor.ndim = 9;
    assert_refused(tensor, "x has 9 dimensions; 0 to 8 are served");
    tensor.ndim = -1;
    assert_refused(tensor, "x has -1 dimensions; 0 to 8 are served");
}

static void refuses_other_devices_and_dtypes(void **state) {
    (void)state;
    DLTensor tensor = TENSOR(data, FOVEA_F32, 2);
    tensor.device.device_type = kDLMetal;
    assert_refused(tensor, "x is on device type 8; the CPU (1) and CUDA (2) are served");
    tensor = TENSOR(data, FOVEA_F32, 2);
    tensor.dtype = (DLDataType){kDLFloat, 32, 4};
    assert_refused(tensor, "x has an unknown dtype: code 2, 32 bits, 4 lanes");
}

static void refuses_negative_and_overflowing_sizes(void **state) {
    static const char too_many[] = "the extents of x, without those that are 0, multiply to more "
                                   "than 4398046511104; no more is served";
    (void)state;
    assert_refused(TENSOR(data, FOVEA_F32, 2, -3),
                   "x has extent -3 in dimension 1; extents are at least 0");
    assert_refused(TENSOR(data, FOVEA_F32, INT64_C(1) << 32, INT64_C(1) << 32), too_many);
    DLTensor tensor = TENSOR(data, FOVEA_F32, 1, (INT64_C(1) << 42) + 1);
    tensor.strides = STRIDES(0, 0); /* of a single element's memory */
    assert_refused(tensor, too_many);
    assert_refused(TENSOR(NULL, FOVEA_F32, INT64_MAX, INT64_MAX, 0), too_many);
    assert_refused(TENSOR(NULL, FOVEA_F32, 0, INT64_C(1) << 22, INT64_C(1) << 22), too_many);
    tensor = TENSOR(data, FOVEA_F32, 3);
    tensor.strides = STRIDES(INT64_MAX / 2);
    assert_refused(tensor, "x has strides or a byte offset that leave the address space");
    tensor.strides = STRIDES(-(INT64_C(1) << 50));
    assert_refused(tensor, "x has strides or a byte offset that leave the address space");
    tensor = TENSOR(data, FOVEA_F32, 2);
    tensor.strides = STRIDES(INT64_MIN / 4); /* to the lowest offset that there is */
    assert_refused(tensor, "x has strides or a byte offset that leave the address space");
    tensor = TENSOR(data, FOVEA_I8, 2, 2); /* each fits, and not what lies between both ends */
    tensor.strides = STRIDES(INT64_MAX - 99, -1000);
    assert_refused(tensor, "x has strides or a byte offset that leave the address space");
    tensor = TENSOR(data, FOVEA_F32, 3);
    tensor.byte_offset = UINT64_MAX - 3;
    assert_refused(tensor, "x has strides or a byte offset that leave the address space");
}

static void refuses_misaligned_elements(void **state) {
    (void)state;
    DLTensor tensor = TENSOR(data, FOVEA_F32, 3);
    tensor.byte_offset = 2;
    char sentence[200];
    snprintf(sentence, sizeof sentence,
             "x is at address %p, which is not a multiple of its element size 4",
             (void *)((char *)data + 2));
    assert_refused(tensor, sentence);
}

static void accepts_empty_tensors_without_data(void **state) {
    (void)state;
    fovea_view view = view_of(TENSOR(NULL, FOVEA_F32, 0, 5));
    assert_int_equal(fovea_view_elements(&view), 0);
    view = view_of(TENSOR(NULL, FOVEA_F32, INT64_C(1) << 21, INT64_C(1) << 21, 0));
    assert_int_equal(fovea_view_elements(&view), 0);
    assert_false(fovea_view_overlaps_itself(&view));
    assert_true(fovea_view_is_contiguous(&view));
}

static void merges_nothing_by_a_span_that_overflows(void **state) {
    (void)state;
    DLTensor tensor = TENSOR(data, FOVEA_U8, 2, 2);
    tensor.strides = STRIDES(1, INT64_C(1) << 62);
    fovea_view view = view_of(tensor);
    fovea_views_collapse((fovea_view *[]){&view}, 1);
    assert_int_equal(view.rank, 2);
}

static bool overlaps(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
    DLTensor tensor = TENSOR(data + 128, FOVEA_F32, rows, columns);
    tensor.strides = STRIDES(row_stride, column_stride);
    fovea_view view = view_of(tensor);
    return fovea_view_overlaps_itself(&view);
}

static void strides_of_empty_tensors_do_not_matter(void **state) {
    (void)state;
    DLTensor tensor = TENSOR(NULL, FOVEA_F32, 3, 0, 2);
    tensor.strides = STRIDES(INT64_MAX, 7, INT64_MIN);
    fovea_view view = view_of(tensor);
    assert_memory_equal(view.stride, STRIDES(2, 2, 1), 3 * sizeof *view.stride);
}

static void strides_of_single_elements_do_not_matter(void **state) {
    (void)state;
    DLTensor tensor = TENSOR(data, FOVEA_F64, 1, 3, 1);
    tensor.strides = STRIDES(INT64_MAX, 2, INT64_MIN);
    fovea_view view = view_of(tensor);
    assert_memory_equal(view.stride, STRIDES(3, 2, 1), 3 * sizeof *view.stride);
}

static void finds_elements_that_share_memory(void **state) {
    (void)state;
    assert_false(overlaps(3, 4, 4, 1));
    assert_false(overlaps(3, 4, 1, 3));
    assert_false(overlaps(3, 4, -4, 1));
    assert_true(overlaps(3, 4, 3, 1));
    assert_true(overlaps(3, 4, 0, 1));
    assert_true(overlaps(3, 4, 1, 1));
    assert_false(overlaps(1, 4, 0, 1)); /* an extent of 1 has no neighbours */
}

static void compares_address_ranges(void **state) {
    (void)state;
    fovea_view a = view_of(TENSOR(data, FOVEA_F32, 8));
    fovea_view next = view_of(TENSOR(data + 8, FOVEA_F32, 8));
    fovea_view shifted = view_of(TENSOR(data + 7, FOVEA_F32, 8));
    assert_false(fovea_view_ranges_meet(&a, &next));
    assert_true(fovea_view_ranges_meet(&a, &shifted));
    DLTensor backwards = TENSOR(data + 15, FOVEA_F32, 8);
    backwards.strides = STRIDES(-1);
    fovea_view reversed = view_of(backwards);
    assert_false(fovea_view_ranges_meet(&a, &reversed));
    assert_true(fovea_view_ranges_meet(&next, &reversed));
    assert_false(fovea_view_same_elements(&next, &reversed));
    assert_true(fovea_view_same_elements(&a, &a));
    fovea_view empty = view_of(TENSOR(data, FOVEA_F32, 0));
    assert_false(fovea_view_ranges_meet(&a, &empty));
}

static void assert_collapses(DLTensor tensor, int rank, const int64_t *shape,
                             const int64_t *stride) {
    fovea_view view = view_of(tensor), *views[] = {&view};
    fovea_views_collapse(views, 1);
    assert_int_equal(view.rank, rank);
    for (int i = 0; i < rank; i++) {
        assert_int_equal(view.shape[i], shape[i]);
        assert_int_equal(view.stride[i], stride[i]);
    }
}

static void collapses_as_far_as_strides_allow(void **state) {
    (void)state;
    assert_collapses(TENSOR(data, FOVEA_F32, 2, 3, 4), 1, STRIDES(24), STRIDES(1));
    assert_collapses(TENSOR(data, FOVEA_F32, 1, 5, 1), 1, STRIDES(5), STRIDES(1));
    assert_collapses(SCALAR(data, FOVEA_F32), 1, STRIDES(1), STRIDES(1));
    DLTensor padded = TENSOR(data, FOVEA_F32, 2, 3, 4);
    padded.strides = STRIDES(24, 8, 1);
    assert_collapses(padded, 2, STRIDES(6, 4), STRIDES(8, 1));
    DLTensor swapped = TENSOR(data, FOVEA_F32, 2, 3, 4);
    swapped.strides = STRIDES(4, 8, 1);
    assert_collapses(swapped, 3, STRIDES(2, 3, 4), STRIDES(4, 8, 1));
}

static void collapses_several_views_alike(void **state) {
    (void)state;
    fovea_view dense = view_of(TENSOR(data, FOVEA_F32, 2, 3, 4));
    DLTensor padded = TENSOR(data, FOVEA_F32, 2, 3, 4);
    padded.strides = STRIDES(24, 8, 1);
    fovea_view other = view_of(padded), *views[] = {&dense, &other};
    fovea_views_collapse(views, 2);
    assert_int_equal(dense.rank, 2);
    assert_int_equal(dense.shape[0], 6);
    assert_int_equal(dense.stride[0], 4);
    assert_int_equal(other.stride[0], 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describes_dense_tensors_without_strides),
        cmocka_unit_test(honours_byte_offset_and_negative_strides),
        cmocka_unit_test(refuses_what_is_no_tensor),
        cmocka_unit_test(refuses_other_devices_and_dtypes),
        cmocka_unit_test(refuses_negative_and_overflowing_sizes),
        cmocka_unit_test(refuses_misaligned_elements),
        cmocka_unit_test(accepts_empty_tensors_without_data),
        cmocka_unit_test(merges_nothing_by_a_span_that_overflows),
        cmocka_unit_test(strides_of_empty_tensors_do_not_matter),
        cmocka_unit_test(strides_of_single_elements_do_not_matter),
        cmocka_unit_test(finds_elements_that_share_memory),
        cmocka_unit_test(compares_address_ranges),
        cmocka_unit_test(collapses_as_far_as_strides_allow),
        cmocka_unit_test(collapses_several_views_alike),
    };
    return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
