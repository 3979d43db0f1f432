/* The two digests against published vectors (FIPS 180-4 examples; BLAKE2b with a digest of 32 bytes), in pieces too.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "support.h"
#include "tiny_model.h"

static const char alphabet[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

static void expect(ap_hash_kind kind, const void *bytes, size_t count, const char *expected)
{
    ap_hash hash;
    char hex[AP_HASH_HEX];
    ap_hash_begin(&hash, kind);
    ap_hash_add(&hash, bytes, count);
    ap_hash_end(&hash, hex);
    assert_string_equal(hex, expected);
    ap_hash_begin(&hash, kind);
    for (size_t at = 0, piece = 1; at < count; at += piece, piece = piece % 97 + 1)
        ap_hash_add(&hash, (const char *)bytes + at, piece < count - at ? piece : count - at);
    ap_hash_end(&hash, hex);
    assert_string_equal(hex, expected);
}

static void sha256_is_that_of_the_standard(void **state)
{
    expect(AP_HASH_SHA256, "", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(AP_HASH_SHA256, "abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(AP_HASH_SHA256, alphabet, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    expect(AP_HASH_SHA256, million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void blake2b_is_that_of_b2sum_l_256(void **state)
{
    expect(AP_HASH_BLAKE2B, "", 0, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    expect(AP_HASH_BLAKE2B, "abc", 3, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

typedef struct seen {
    uint64_t done, total;
    unsigned calls;
} seen;

static void see(void *context, uint64_t done, uint64_t total)
{
    seen *s = context;
    assert_true(done >= s->done && done <= total);
    *s = (seen){done, total, s->calls + 1};
}

static void a_file_is_hashed_whole_whatever_its_offset(void **state)
{
    int fd = ap_test_temporary();
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    assert_ok(ap_file_write_all(fd, million, 1000000, err));
    free(million);
    char hex[AP_HASH_HEX];
    seen s = {0};
    assert_ok(ap_hash_file(fd, AP_HASH_SHA256, hex, see, &s, err));
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_true(s.calls > 0 && s.done == 1000000 && s.total == 1000000);
    assert_true(lseek(fd, 0, SEEK_CUR) == 1000000);
    close(fd);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_not_equal(ap_hash_file(pipe_fds[0], AP_HASH_SHA256, hex, NULL, NULL, NULL), AP_OK);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_is_that_of_the_standard),
        cmocka_unit_test(blake2b_is_that_of_b2sum_l_256),
        cmocka_unit_test(a_file_is_hashed_whole_whatever_its_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
