/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/wire.h"

enum { PAYLOAD_MAX = 100000 };

static void make_pair(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static void header(char out[16], uint32_t bytes, uint32_t kind, uint64_t id)
{
    memcpy(out, &bytes, 4);
    memcpy(out + 4, &kind, 4);
    memcpy(out + 8, &id, 8);
}

static ap_wire_reader new_reader(void)
{
    return (ap_wire_reader){.kinds = AP_WIRE_KIND(1) | AP_WIRE_KIND(20) | AP_WIRE_KIND(63),
                            .payload_max = PAYLOAD_MAX};
}

static size_t three_frames(char *out)
{
    header(out, 5, 1, 7);
    memcpy(out + 16, "hello", 5);
    header(out + 21, 0, 20, UINT64_MAX);
    header(out + 37, 3, 63, 1);
    memcpy(out + 53, "abc", 3);
    return 56;
}

static size_t check_frames(ap_wire_reader *reader, size_t seen)
{
    static const struct {
        uint32_t kind;
        uint64_t id;
        const char *payload;
    } expected[] = {{1, 7, "hello"}, {20, UINT64_MAX, ""}, {63, 1, "abc"}};
    for (;; seen++) {
        ap_wire_frame frame;
        bool have;
        assert_ok(ap_wire_next(reader, &frame, &have, err));
        if (!have)
            return seen;
        assert_true(seen < 3);
        assert_int_equal(frame.kind, expected[seen].kind);
        assert_true(frame.id == expected[seen].id);
        assert_int_equal(frame.bytes, strlen(expected[seen].payload));
        assert_memory_equal(frame.payload, expected[seen].payload, frame.bytes);
    }
}

static void frames_arrive_whole_for_every_cut_of_their_bytes(void **state)
{
    char bytes[64];
    size_t count = three_frames(bytes);
    for (size_t a = 0; a <= count; a++) {
        for (size_t b = a; b <= count; b++) {
            int ends[2];
            make_pair(ends);
            ap_wire_reader reader = new_reader();
            const size_t cuts[] = {0, a, b, count};
            size_t seen = 0;
            for (int i = 0; i < 3; i++) {
                size_t n = cuts[i + 1] - cuts[i];
                assert_int_equal(write(ends[0], bytes + cuts[i], n), n);
                bool is_open;
                assert_ok(ap_wire_fill(&reader, ends[1], 1000, &is_open, err));
                assert_true(is_open);
                seen = check_frames(&reader, seen);
            }
            assert_int_equal(seen, 3);
            close(ends[0]);
            bool is_open;
            assert_ok(ap_wire_fill(&reader, ends[1], 1000, &is_open, err));
            assert_false(is_open);
            close(ends[1]);
            ap_wire_reader_deinit(&reader);
        }
    }
}

static void reader_refuses_frames_of_other_kinds_and_lengths(void **state)
{
    static const struct {
        uint32_t bytes, kind;
    } hostile[] = {{0, 0},          {0, 2}, {0, 19}, {0, 64}, {0, 85}, {0, UINT32_MAX}, {PAYLOAD_MAX + 1, 1},
                   {UINT32_MAX, 20}};
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        int ends[2];
        make_pair(ends);
        ap_wire_reader reader = new_reader();
        char bytes[16];
        header(bytes, hostile[i].bytes, hostile[i].kind, 1);
        assert_int_equal(write(ends[0], bytes, 16), 16);
        bool is_open, have;
        ap_wire_frame frame;
        ap_error error = {0};
        assert_ok(ap_wire_fill(&reader, ends[1], 1000, &is_open, err));
        assert_int_equal(ap_wire_next(&reader, &frame, &have, &error), AP_E_FORMAT);
        assert_false(have);
        assert_true(error.message[0]);
        /* It stays so: there is no way back into step. */
        assert_int_equal(ap_wire_next(&reader, &frame, &have, &error), AP_E_FORMAT);
        close(ends[0]);
        close(ends[1]);
        ap_wire_reader_deinit(&reader);
    }
}

static void a_promised_length_takes_no_memory(void **state)
{
    int ends[2];
    make_pair(ends);
    ap_wire_reader reader = {.kinds = AP_WIRE_KIND(1), .payload_max = 64 * 1024 * 1024};
    char bytes[16];
    header(bytes, 64 * 1024 * 1024, 1, 1);
    assert_int_equal(write(ends[0], bytes, 16), 16);
    bool is_open, have;
    ap_wire_frame frame;
    assert_ok(ap_wire_fill(&reader, ends[1], 1000, &is_open, err));
    assert_ok(ap_wire_next(&reader, &frame, &have, err));
    assert_false(have);
    assert_true(reader.buf.room < 1024 * 1024);
    close(ends[0]);
    close(ends[1]);
    ap_wire_reader_deinit(&reader);
}

static void large_frames_cross_a_full_socket_unchanged(void **state)
{
    int ends[2];
    make_pair(ends);
    ap_wire_reader reader = new_reader();
    ap_wire_writer writer = {0};
    char *payload = ap_alloc(PAYLOAD_MAX);
    uint64_t random = 1;
    for (size_t i = 0; i < PAYLOAD_MAX; i++)
        payload[i] = (char)ap_test_random(&random);
    enum { FRAMES = 40 };
    for (uint64_t i = 0; i < FRAMES; i++)
        assert_ok(ap_wire_put(&writer, 1, i, payload, PAYLOAD_MAX - i, err));
    uint64_t seen = 0;
    size_t turns = 0, stuck = 0;
    while (seen < FRAMES) {
        assert_true(turns++ < 100000);
        assert_ok(ap_wire_flush(&writer, ends[0], err));
        stuck += ap_wire_unsent(&writer) > 0;
        bool is_open, have = true;
        assert_ok(ap_wire_fill(&reader, ends[1], 3000 + turns % 5000, &is_open, err));
        while (have) {
            ap_wire_frame frame;
            assert_ok(ap_wire_next(&reader, &frame, &have, err));
            if (!have)
                break;
            assert_true(frame.id == seen);
            assert_int_equal(frame.bytes, PAYLOAD_MAX - seen);
            assert_memory_equal(frame.payload, payload, frame.bytes);
            seen++;
        }
    }
    assert_true(stuck > 0); /* else nothing was tested */
    assert_int_equal(ap_wire_unsent(&writer), 0);
    close(ends[0]);
    close(ends[1]);
    ap_free(payload);
    ap_wire_reader_deinit(&reader);
    ap_wire_writer_deinit(&writer);
}

static void writer_says_full_at_its_bound_and_stays_whole(void **state)
{
    ap_wire_writer writer = {.buf.limit = 1000};
    char payload[2000] = {0};
    assert_ok(ap_wire_put(&writer, 1, 1, payload, 2000, err)); /* alone, any frame goes */
    assert_int_equal(ap_wire_put(&writer, 1, 2, payload, 0, NULL), AP_E_FULL);
    writer.start = writer.buf.len;
    assert_ok(ap_wire_put(&writer, 1, 3, payload, 400, err));
    assert_ok(ap_wire_put(&writer, 1, 4, payload, 1000 - 416 - 16, err));
    size_t unsent = ap_wire_unsent(&writer);
    assert_int_equal(unsent, 1000);
    ap_error error = {0};
    assert_int_equal(ap_wire_put(&writer, 1, 5, payload, 0, &error), AP_E_FULL);
    assert_int_equal(ap_wire_unsent(&writer), unsent);
    ap_wire_writer_deinit(&writer);
}

static void writing_to_nobody_is_an_error_and_no_signal(void **state)
{
    int ends[2];
    make_pair(ends);
    close(ends[1]);
    ap_wire_writer writer = {0};
    assert_ok(ap_wire_put(&writer, 1, 1, "x", 1, err));
    ap_error error = {0};
    assert_int_equal(ap_wire_flush(&writer, ends[0], &error), AP_E_IO);
    close(ends[0]);
    ap_wire_writer_deinit(&writer);
}

static void status_names_go_there_and_back(void **state)
{
    ap_status status;
#define X(number, name, text)                                                                                \
    assert_int_equal(ap_wire_status_from(ap_str_from(#name), &status), number != 0);                         \
    if (number) {                                                                                            \
        assert_int_equal(status, number);                                                                    \
        assert_string_equal(ap_wire_status_name((ap_status)number), #name);                                  \
    }
    AP_STATUS_LIST(X)
#undef X
    assert_false(ap_wire_status_from(AP_STR(""), &status));
    assert_false(ap_wire_status_from(AP_STR("E_"), &status));
    assert_string_equal(ap_wire_status_name((ap_status)999), "E_BUG");
}

static void any_bytes_become_json_that_jansson_reads(void **state)
{
    uint64_t random = 5;
    for (int round = 0; round < 2000; round++) {
        char bytes[24];
        size_t count = ap_test_random(&random) % sizeof bytes;
        for (size_t i = 0; i < count; i++)
            bytes[i] = (char)(round % 2 ? ap_test_random(&random) % 128 : ap_test_random(&random));
        ap_buf out = {0};
        assert_ok(ap_wire_add_json(&out, (ap_str){bytes, count}, err));
        json_t *text = json_loadb(out.ptr, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(text));
        if (round % 2) {
            assert_int_equal(json_string_length(text), count);
            assert_memory_equal(json_string_value(text), bytes, count);
        }
        json_decref(text);
        ap_buf_deinit(&out);
    }
}

static ap_status put_and_fill(void *context)
{
    int *ends = context;
    ap_wire_writer writer = {0};
    ap_wire_reader reader = new_reader();
    bool is_open;
    ap_buf text = {0};
    ap_status status = ap_wire_add_json(&text, AP_STR("a\xff\"\n"), NULL);
    if (status == AP_OK)
        status = ap_wire_put(&writer, 1, 1, text.ptr, text.len, NULL);
    if (status == AP_OK)
        status = ap_wire_fill(&reader, ends[1], 100, &is_open, NULL);
    ap_buf_deinit(&text);
    ap_wire_writer_deinit(&writer);
    ap_wire_reader_deinit(&reader);
    return status;
}

static void every_failed_allocation_comes_back_as_a_status(void **state)
{
    int ends[2];
    make_pair(ends);
    ap_test_each_oom(put_and_fill, ends);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive_whole_for_every_cut_of_their_bytes),
        cmocka_unit_test(reader_refuses_frames_of_other_kinds_and_lengths),
        cmocka_unit_test(a_promised_length_takes_no_memory),
        cmocka_unit_test(large_frames_cross_a_full_socket_unchanged),
        cmocka_unit_test(writer_says_full_at_its_bound_and_stays_whole),
        cmocka_unit_test(writing_to_nobody_is_an_error_and_no_signal),
        cmocka_unit_test(status_names_go_there_and_back),
        cmocka_unit_test(any_bytes_become_json_that_jansson_reads),
        cmocka_unit_test(every_failed_allocation_comes_back_as_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
