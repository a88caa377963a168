/* The table of operations: handles, names, limits, and use from several threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/reduce_internal.h"

enum { LIMIT = 1024 };

static void take_left(void *result, const void *left, const void *right, size_t count, weft_type type,
                      void *context)
{
    (void)right;
    (void)context;
    if (result != left)
        memcpy(result, left, count * weft_type_bytes(type));
}

static void built_in_operations_have_names_that_parse(void **state)
{
    (void)state;
    const char *const names[] = { "sum", "prod", "min", "max", "avg", "band", "bor", "bxor" };
    for (int i = 0; i < WEFT_OP_COUNT; i++) {
        weft_op op = -1;
        assert_string_equal(weft_op_name(i), names[i]);
        assert_int_equal(weft_op_parse(names[i], &op), WEFT_OK);
        assert_int_equal(op, i);
        assert_true(weft_op_commutes(i));
        assert_null(weft_op_find(i));
        assert_int_equal(weft_op_free(i), WEFT_ERR_INVALID);
        assert_non_null(strstr(weft_last_error(), names[i]));
    }
}

static void other_texts_do_not_parse(void **state)
{
    (void)state;
    const char *const texts[] = { "", "su", "sums", " sum", "user", "premul_sum", "?", "7" };
    weft_op op = 42;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_int_equal(weft_op_parse(texts[i], &op), WEFT_ERR_PARSE);
        assert_non_null(strstr(weft_last_error(), "bxor"));
    }
    assert_int_equal(weft_op_parse(NULL, &op), WEFT_ERR_INVALID);
    assert_int_equal(op, 42);
    assert_int_equal(weft_op_parse("sum", NULL), WEFT_ERR_INVALID);
}

static void a_created_operation_is_found_until_it_is_freed(void **state)
{
    (void)state;
    int context;
    weft_op op, other;
    assert_int_equal(weft_op_create(take_left, &context, false, &op), WEFT_OK);
    assert_int_equal(weft_op_create(take_left, NULL, true, &other), WEFT_OK);
    assert_int_not_equal(op, other);
    assert_true(op >= WEFT_OP_COUNT);
    assert_string_equal(weft_op_name(op), "user");
    assert_false(weft_op_commutes(op));
    assert_true(weft_op_commutes(other));
    assert_ptr_equal(weft_op_find(op)->context, &context);
    assert_ptr_equal(weft_op_find(op)->function, take_left);

    assert_int_equal(weft_op_free(op), WEFT_OK);
    assert_null(weft_op_find(op));
    assert_string_equal(weft_op_name(op), "?");
    assert_int_equal(weft_op_free(op), WEFT_ERR_INVALID);
    assert_non_null(weft_op_find(other));
    assert_int_equal(weft_op_free(other), WEFT_OK);
}

static void the_factor_is_read_at_creation(void **state)
{
    (void)state;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++) {
        size_t bytes = weft_type_bytes((weft_type)type);
        unsigned char factor[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, read[8];
        weft_op op;
        assert_int_equal(weft_op_create_premul_sum(factor, (weft_type)type, &op), WEFT_OK);
        memset(factor, 0xff, sizeof(factor));
        assert_string_equal(weft_op_name(op), "premul_sum");
        assert_true(weft_op_commutes(op));
        assert_true(weft_op_premul_factor(op, read));
        for (size_t i = 0; i < sizeof(read); i++)
            assert_int_equal(read[i], i < bytes ? i + 1 : 0);
        assert_int_equal(weft_op_free(op), WEFT_OK);
    }
}

static void arguments_that_are_missing_are_named(void **state)
{
    (void)state;
    const float factor = 1;
    weft_op op;
    assert_int_equal(weft_op_create(NULL, NULL, true, &op), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "function"));
    assert_int_equal(weft_op_create(take_left, NULL, true, NULL), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_create_premul_sum(NULL, WEFT_F32, &op), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "factor"));
    assert_int_equal(weft_op_create_premul_sum(&factor, WEFT_F32, NULL), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_create_premul_sum(&factor, (weft_type)WEFT_TYPE_COUNT, &op), WEFT_ERR_INVALID);
}

static void handles_that_never_were_are_refused(void **state)
{
    (void)state;
    const weft_op handles[] = { -1, INT32_MIN, WEFT_OP_COUNT, LIMIT - 1, LIMIT, INT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
        assert_null(weft_op_find(handles[i]));
        assert_int_equal(weft_op_free(handles[i]), WEFT_ERR_INVALID);
        assert_string_equal(weft_op_name(handles[i]), "?");
    }
}

static void the_table_fills_up_and_is_used_again(void **state)
{
    (void)state;
    static weft_op ops[LIMIT];
    weft_op extra;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < LIMIT; i++)
            assert_int_equal(weft_op_create(take_left, &ops[i], true, &ops[i]), WEFT_OK);
        assert_int_equal(weft_op_create(take_left, NULL, true, &extra), WEFT_ERR_MEMORY);
        assert_non_null(strstr(weft_last_error(), "weft_op_free"));
        for (int i = 0; i < LIMIT; i++)
            assert_ptr_equal(weft_op_find(ops[i])->context, &ops[i]);
        /* The only free place is used, under a new handle. */
        weft_op old = ops[round * 100];
        assert_int_equal(weft_op_free(old), WEFT_OK);
        assert_int_equal(weft_op_create(take_left, NULL, true, &ops[round * 100]), WEFT_OK);
        assert_int_not_equal(ops[round * 100], old);
        assert_null(weft_op_find(old));
        for (int i = 0; i < LIMIT; i++)
            assert_int_equal(weft_op_free(ops[i]), WEFT_OK);
    }
}

static void *create_find_free(void *argument)
{
    weft_op *shared = argument;
    for (int i = 0; i < 3000; i++) {
        weft_op own = -1;
        int context;
        if (weft_op_create(take_left, &context, false, &own) != WEFT_OK)
            return argument;
        const weft_user_op *found = weft_op_find(own);
        if (!found || found->context != &context || !weft_op_commutes(*shared) ||
            weft_op_free(own) != WEFT_OK)
            return argument;
    }
    return NULL;
}

static void threads_create_and_free_beside_each_other(void **state)
{
    (void)state;
    pthread_t threads[4];
    weft_op shared;
    assert_int_equal(weft_op_create(take_left, NULL, true, &shared), WEFT_OK);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, create_find_free, &shared), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(weft_op_free(shared), WEFT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_operations_have_names_that_parse),
        cmocka_unit_test(other_texts_do_not_parse),
        cmocka_unit_test(a_created_operation_is_found_until_it_is_freed),
        cmocka_unit_test(the_factor_is_read_at_creation),
        cmocka_unit_test(arguments_that_are_missing_are_named),
        cmocka_unit_test(handles_that_never_were_are_refused),
        cmocka_unit_test(the_table_fills_up_and_is_used_again),
        cmocka_unit_test(threads_create_and_free_beside_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
