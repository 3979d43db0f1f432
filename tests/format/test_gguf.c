/* The reader against hostile files: nothing crashes, every refusal is one line, memory and
 * time stay small.  The files come from the tests' own writer (tiny_model.h), from byte-level changes to it, and
 * from a corpus of files that once broke other readers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "format/format.h"
#include "hand.h"
#include "support.h"
#include "tiny_model.h"

enum { MIB = 1 << 20 };
static uint64_t taken_bytes; /* by the last open_bytes, until it refused or opened */

/* Opens a copy of exactly this length (so that a sanitizer sees a byte too far) and walks all it has. */
static ap_status open_bytes(const void *bytes, size_t length, ap_error *err)
{
    unsigned char *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    if (length)
        memcpy(copy, bytes, length);
    ap_gguf *g = NULL;
    err->message[0] = 0;
    uint64_t start = ap_clock_ns();
    ap_alloc_fail_at(UINT64_MAX, false); /* count, never fail */
    ap_status status = ap_gguf_open(&g, copy, length, err);
    taken_bytes = ap_alloc_bytes();
    ap_alloc_fail_at(0, false);
    assert_true(ap_clock_ns() - start < ap_test_slowness() * 1000000000ull);
    assert_true(taken_bytes <= 16 * MIB + 4 * (uint64_t)length);
    if (status == AP_OK) {
        assert_non_null(g);
        ap_arena arena = {.limit_bytes = 64u << 20};
        for (uint32_t i = 0; i < ap_gguf_key_count(g); i++) {
            const ap_gguf_key *key = ap_gguf_key_at(g, i);
            assert_ptr_equal(ap_gguf_find(g, key->name), key);
            assert_true(key->bytes >= copy && key->bytes + key->byte_count <= copy + length);
            char name[128];
            const ap_str *strings;
            uint64_t count;
            if (key->name.len >= sizeof name || key->kind != AP_GGUF_ARRAY || key->item_kind != AP_GGUF_STRING)
                continue;
            memcpy(name, key->name.ptr, key->name.len);
            name[key->name.len] = 0;
            if (ap_gguf_get_strs(g, name, &arena, &strings, &count, NULL) == AP_OK)
                for (uint64_t s = 0; s < count; s++)
                    assert_true(strings[s].ptr >= (char *)copy && strings[s].ptr + strings[s].len <= (char *)copy + length);
        }
        for (uint32_t i = 0; i < ap_gguf_tensor_count(g); i++) {
            const ap_gguf_tensor *t = ap_gguf_tensor_at(g, i);
            assert_true(t->offset <= length && t->bytes <= length - t->offset);
            assert_ptr_equal(ap_gguf_find_tensor(g, t->name), t);
        }
        ap_arena_deinit(&arena);
    } else {
        assert_null(g);
        assert_true(err->message[0] != 0);
        assert_null(strchr(err->message, '\n'));
    }
    ap_gguf_close(&g);
    free(copy);
    return status;
}

/* The smallest useful file: metadata of a tiny model, its tensors cut down. */
static ap_buf small_file(void)
{
    ap_buf out = {0};
    ap_tiny_model tiny = {.seed = 1, .type = 2, .layers = 1, .width = 32, .heads = 2, .kv_heads = 1, .ffn = 32};
    ap_tiny_model_write(&tiny, &out);
    return out;
}

static size_t header_bytes(const ap_buf *file)
{
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file->ptr, file->len, err));
    size_t end = (size_t)ap_gguf_tensor_at(g, 0)->offset;
    ap_gguf_close(&g);
    return end;
}

static void gguf_reads_what_another_writer_wrote(void **state)
{
    ap_buf file = small_file();
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file.ptr, file.len, err));
    uint32_t width;
    ap_str text;
    float epsilon;
    assert_ok(ap_gguf_get_u32(g, "llama.embedding_length", &width, err));
    assert_int_equal(width, 32);
    assert_ok(ap_gguf_get_str(g, "general.name", &text, err));
    assert_true(ap_str_is(text, "tiny"));
    assert_ok(ap_gguf_get_f32(g, "llama.attention.layer_norm_rms_epsilon", &epsilon, err));
    assert_true(epsilon == 1e-5f);
    const ap_gguf_tensor *t = ap_gguf_find_tensor(g, AP_STR("token_embd.weight"));
    assert_non_null(t);
    assert_int_equal(t->dims[0], 32);
    assert_int_equal(t->dims[1], AP_TINY_VOCAB);
    assert_int_equal(t->bytes, AP_TINY_VOCAB * 18);
    ap_error refusal = {0};
    bool flag;
    assert_int_equal(ap_gguf_get_bool(g, "general.name", &flag, &refusal), AP_E_FORMAT);
    assert_non_null(strstr(refusal.message, "general.name"));
    assert_int_equal(ap_gguf_get_u32(g, "nothing.here", &width, &refusal), AP_E_NOTFOUND);
    ap_gguf_close(&g);
    ap_buf_deinit(&file);
}

static void gguf_refuses_every_truncation(void **state)
{
    ap_buf file = small_file();
    size_t header = header_bytes(&file);
    ap_error err = {0};
    /* Every byte of the header, then every 997th of the data; the last tensor's padding may be missing. */
    for (size_t n = 0; n + 32 < file.len; n += n < header ? 1 : 997)
        assert_int_not_equal(open_bytes(file.ptr, n, &err), AP_OK);
    ap_buf_deinit(&file);
}

static void gguf_refuses_a_cut_at_every_edge_of_a_tensor(void **state)
{
    ap_buf file = small_file();
    ap_error error = {0};
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file.ptr, file.len, err));
    size_t end = 0;
    for (uint32_t i = 0; i < ap_gguf_tensor_count(g); i++) {
        const ap_gguf_tensor *t = ap_gguf_tensor_at(g, i);
        end = (size_t)(t->offset + t->bytes);
        const size_t cuts[] = {(size_t)t->offset - 1, (size_t)t->offset, (size_t)t->offset + 1, end - 1};
        for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++)
            assert_int_not_equal(open_bytes(file.ptr, cuts[c], &error), AP_OK);
        if (i + 1 < ap_gguf_tensor_count(g))
            assert_int_not_equal(open_bytes(file.ptr, end, &error), AP_OK);
    }
    assert_int_equal(open_bytes(file.ptr, end, &error), AP_OK);
    ap_gguf_close(&g);
    ap_buf_deinit(&file);
}

/* The file with a number of 64 bits replaced by what is one more than the bytes behind it hold, in items of this size. */
static void one_too_long(const ap_buf *file, const void *number, uint64_t item_bytes)
{
    size_t at = (size_t)((const char *)number - file->ptr);
    uint64_t old, more = (file->len - at - 8) / item_bytes + 1;
    ap_error err = {0};
    memcpy(&old, file->ptr + at, 8);
    memcpy(file->ptr + at, &more, 8);
    if (open_bytes(file->ptr, file->len, &err) == AP_OK)
        fail_msg("a length of %" PRIu64 " at %zu was taken", more, at);
    memcpy(file->ptr + at, &old, 8);
}

static void gguf_refuses_every_length_that_is_one_too_long(void **state)
{
    static const uint8_t sizes[AP_GGUF_KIND_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8}; /* a string has a length */
    ap_buf file = small_file();
    ap_gguf *g;
    unsigned lengths = 0;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file.ptr, file.len, err));
    for (uint32_t i = 0; i < ap_gguf_key_count(g); i++, lengths++) {
        const ap_gguf_key *key = ap_gguf_key_at(g, i);
        one_too_long(&file, key->name.ptr - 8, 1);
        if (key->kind == AP_GGUF_ARRAY)
            one_too_long(&file, key->bytes - 8, sizes[key->item_kind]);
        const unsigned char *text = key->bytes;
        for (uint64_t n = 0; key->item_kind == AP_GGUF_STRING && n < key->count; n++, lengths++) {
            uint64_t length;
            memcpy(&length, text, 8);
            one_too_long(&file, text, 1);
            text += 8 + length;
        }
    }
    for (uint32_t i = 0; i < ap_gguf_tensor_count(g); i++, lengths++)
        one_too_long(&file, ap_gguf_tensor_at(g, i)->name.ptr - 8, 1);
    assert_true(lengths > AP_TINY_VOCAB);
    ap_gguf_close(&g);
    ap_buf_deinit(&file);
}

static void gguf_survives_every_flipped_bit_of_the_header(void **state)
{
    ap_buf file = small_file();
    size_t header = header_bytes(&file);
    ap_error err = {0};
    unsigned refused = 0;
    for (size_t bit = 0; bit < header * 8; bit++) {
        file.ptr[bit / 8] ^= (char)(1 << bit % 8);
        refused += open_bytes(file.ptr, file.len, &err) != AP_OK;
        file.ptr[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_true(refused > header); /* most of the bits that count, counted against */
    ap_buf_deinit(&file);
}

static const uint64_t absurd[] = {1ull << 31, 1ull << 32, 1ull << 61, (1ull << 61) + 1, 1ull << 63, UINT64_MAX, UINT64_MAX - 3};

static void gguf_refuses_absurd_counts_without_memory(void **state)
{
    ap_buf file = small_file();
    ap_error err = {0};
    static const size_t fields[] = {8, 16}; /* tensor count, key count */
    for (size_t f = 0; f < 2; f++)
        for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
            uint64_t old;
            memcpy(&old, file.ptr + fields[f], 8);
            memcpy(file.ptr + fields[f], &absurd[i], 8);
            assert_int_equal(open_bytes(file.ptr, file.len, &err), AP_E_LIMIT);
            assert_true(taken_bytes < 1024);
            assert_non_null(strstr(err.message, "count at offset"));
            memcpy(file.ptr + fields[f], &old, 8);
        }
    ap_buf_deinit(&file);
}

/* Every aligned or unaligned place of the header takes every absurd number once: lengths, counts, dimensions, offsets. */
static void gguf_survives_absurd_numbers_anywhere(void **state)
{
    ap_buf file = small_file();
    size_t header = header_bytes(&file);
    ap_error err = {0};
    for (size_t at = 4; at + 8 <= header; at++)
        for (size_t i = 0; i <= sizeof absurd / sizeof absurd[0]; i++) {
            uint64_t old, value = i < sizeof absurd / sizeof absurd[0] ? absurd[i] : file.len - at - 8 + 1; /* one too long */
            memcpy(&old, file.ptr + at, 8);
            memcpy(file.ptr + at, &value, 8);
            (void)open_bytes(file.ptr, file.len, &err);
            assert_true(taken_bytes <= MIB);
            memcpy(file.ptr + at, &old, 8);
        }
    ap_buf_deinit(&file);
}

/* ---- Hand-made files ---- */

static void refused(hand *h, ap_status status, const char *word)
{
    ap_error err = {0};
    ap_status got = open_bytes(h->b.ptr, h->b.len, &err);
    if (got != status || !strstr(err.message, word))
        fail_msg("wanted '%s' with '%s', got '%s': %s", ap_status_text(status), word, ap_status_text(got), err.message);
    ap_buf_deinit(&h->b);
}

static void gguf_refuses_versions_it_does_not_know(void **state)
{
    static const uint32_t versions[] = {0, 1, 4, 0x03000000, 0x02000000, UINT32_MAX};
    for (size_t i = 0; i < 6; i++) {
        hand h = begin(versions[i], 0, 0);
        refused(&h, AP_E_UNSUPPORTED, versions[i] == 0x03000000 || versions[i] == 0x02000000 ? "big-endian" : "version");
    }
    hand h = {0};
    put(&h, "GGUX\3\0\0\0", 8);
    refused(&h, AP_E_FORMAT, "not a GGUF file");
}

static void gguf_refuses_bad_tensors(void **state)
{
    hand h = begin(3, 1, 0);
    tensor(&h, "a", 1, 0, 0, 0, 0);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "dimension");
    h = begin(3, 1, 0);
    tensor(&h, "a", 2, 1ull << 40, 1ull << 40, 0, 0);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "product");
    h = begin(3, 1, 0);
    tensor(&h, "a", 4, 1ull << 32, 1ull << 32, 0, 0);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "product");
    h = begin(3, 1, 0);
    tensor(&h, "a", 1, 1ull << 62, 0, 0, 0); /* times four bytes wraps */
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "a");
    h = begin(3, 1, 0);
    tensor(&h, "a", 5, 1, 1, 0, 0);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "dimension count");
    h = begin(3, 1, 0);
    tensor(&h, "a", 1, 33, 0, 2, 0); /* no whole block */
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "blocks of 32");
    static const struct {
        uint32_t type;
        const char *words;
    } types[] = {
        {4, "type 4 (Q4_2) at offset 45, which was removed"}, {5, "type 5 (Q4_3) at offset 45, which was removed"},
        {31, "31 (Q4_0_4_4) at offset 45, which was removed"}, {32, "32 (Q4_0_4_8) at offset 45, which was removed"},
        {33, "33 (Q4_0_8_8) at offset 45, which was removed"}, {36, "36 (IQ4_NL_4_4) at offset 45, which was removed"},
        {37, "37 (IQ4_NL_4_8) at offset 45, which was removed"}, {38, "38 (IQ4_NL_8_8) at offset 45, which was removed"},
        {43, "type 43 at offset 45, which GGUF does not have"}, {97, "type 97 at offset 45, which GGUF does not have"},
        {133, "type 133 at offset"}, {1000, "type 1000 at offset"}, {UINT32_MAX, "type 4294967295 at offset"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        h = begin(3, 1, 0);
        tensor(&h, "a", 1, 256, 0, types[i].type, 0);
        finish(&h, 64);
        refused(&h, AP_E_UNSUPPORTED, types[i].words);
    }
    h = begin(3, 2, 0);
    tensor(&h, "a", 1, 8, 0, 0, 0);
    tensor(&h, "a", 1, 8, 0, 0, 32);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "twice");
    static const uint64_t offsets[] = {0, 1, 31, 64, 1ull << 63, UINT64_MAX, UINT64_MAX - 31}; /* overlap, misaligned, hole, wrap */
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        h = begin(3, 2, 0);
        tensor(&h, "a", 1, 8, 0, 0, 0);
        tensor(&h, "b", 1, 8, 0, 0, offsets[i]);
        finish(&h, 256);
        refused(&h, AP_E_FORMAT, "offset");
    }
    h = begin(3, 1, 0);
    tensor(&h, "a", 1, 17, 0, 0, 0);
    finish(&h, 64); /* four bytes short */
    refused(&h, AP_E_FORMAT, "68 bytes");
    h = begin(3, 1, 0);
    tensor(&h, "this name has sixty-four characters, which is one more than fits", 1, 8, 0, 0, 0);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "name");
    h = begin(3, 1, 0);
    tensor(&h, "", 1, 8, 0, 0, 0);
    finish(&h, 64);
    refused(&h, AP_E_FORMAT, "name");
}

static void gguf_refuses_bad_keys(void **state)
{
    static const uint32_t alignments[] = {0, 1, 4, 24, 33, 1u << 17, 0x80000000u};
    hand h;
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        h = begin(3, 0, 1);
        str(&h, "general.alignment");
        u32(&h, 4);
        u32(&h, alignments[i]);
        refused(&h, AP_E_FORMAT, "general.alignment");
    }
    h = begin(3, 0, 1);
    str(&h, "general.alignment");
    u32(&h, 10);
    u64(&h, 32);
    refused(&h, AP_E_FORMAT, "general.alignment");
    h = begin(3, 0, 2);
    for (int i = 0; i < 2; i++) {
        str(&h, "k");
        u32(&h, 0);
        put(&h, "\1", 1);
    }
    finish(&h, 32);
    refused(&h, AP_E_FORMAT, "twice");
    h = begin(3, 0, 1);
    str(&h, "");
    u32(&h, 0);
    finish(&h, 32);
    refused(&h, AP_E_FORMAT, "key");
    h = begin(3, 0, 1);
    str(&h, "k");
    u32(&h, 7);
    put(&h, "\2", 1); /* a bool that is neither */
    finish(&h, 32);
    refused(&h, AP_E_FORMAT, "bool");
    h = begin(3, 0, 1);
    str(&h, "k");
    u32(&h, 13);
    finish(&h, 32);
    refused(&h, AP_E_FORMAT, "value type");
    h = begin(3, 0, 1);
    str(&h, "k");
    u32(&h, 9);
    u32(&h, 9); /* an array of arrays */
    u64(&h, 1);
    finish(&h, 32);
    refused(&h, AP_E_UNSUPPORTED, "array");
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++)
        for (uint32_t type = 0; type < 13; type++) {
            if (type == 9)
                continue;
            h = begin(3, 0, 1);
            str(&h, "k");
            u32(&h, 9);
            u32(&h, type);
            u64(&h, absurd[i]);
            finish(&h, 32);
            refused(&h, AP_E_FORMAT, "array at offset");
        }
    /* Signed lengths: a string of length 2^64 - 1 would wrap with its NUL. */
    h = begin(3, 0, 1);
    u64(&h, UINT64_MAX);
    finish(&h, 32);
    refused(&h, AP_E_FORMAT, "length");
}

/* As many keys and tensors as there may be, and a last one that is wrong: the most that a refusal can cost. */
static void gguf_refusal_after_the_longest_header_keeps_to_its_memory(void **state)
{
    hand h = begin(3, AP_GGUF_TENSORS_MAX, AP_GGUF_KEYS_MAX);
    char name[16];
    for (uint32_t i = 0; i < AP_GGUF_KEYS_MAX; i++) {
        (void)snprintf(name, sizeof name, "%x", i);
        str(&h, name);
        u32(&h, AP_GGUF_U8);
        put(&h, "", 1);
    }
    for (uint32_t i = 0; i < AP_GGUF_TENSORS_MAX; i++) {
        (void)snprintf(name, sizeof name, "%x", i);
        tensor(&h, name, 1, 1, 0, i + 1 < AP_GGUF_TENSORS_MAX ? 24 : 5, 32ull * i);
    }
    ap_error err = {0};
    assert_int_equal(open_bytes(h.b.ptr, h.b.len, &err), AP_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "removed"));
    assert_true(taken_bytes > 8 * MIB); /* the tables were made */
    /* One more of either, which the file would have room for. */
    for (size_t field = 8; field <= 16; field += 8) {
        uint64_t many = 65537, most = 65536;
        memcpy(h.b.ptr + field, &many, 8);
        assert_int_equal(open_bytes(h.b.ptr, h.b.len, &err), AP_E_LIMIT);
        assert_non_null(strstr(err.message, "is 65537; at most 65536"));
        assert_true(taken_bytes < 1024);
        memcpy(h.b.ptr + field, &most, 8);
    }
    ap_buf_deinit(&h.b);
}

static void check_folder(const char *relative, unsigned minimum)
{
    const char *folder = ap_test_data(relative);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    unsigned seen = 0;
    for (struct dirent *d; (d = readdir(dir));) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        struct stat st;
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || strstr(d->d_name, ".safetensors"))
            continue;
        ap_buf bytes;
        assert_ok(ap_file_read(path, 1 << 20, &bytes, err));
        ap_error refusal = {0};
        (void)open_bytes(bytes.ptr, bytes.len, &refusal);
        ap_buf_deinit(&bytes);
        seen++;
    }
    closedir(dir);
    assert_true(seen >= minimum);
}

static void gguf_survives_the_collected_bad_files(void **state)
{
    check_folder("bad_inputs/gguf_crashes", 1);
    check_folder("bad_inputs/gguf_fuzz_corpus", 169);
    check_folder("bad_inputs/gguf_header_only", 13);
    check_folder("bad_inputs/weight-inspect", 2);
}

static void gguf_declared_tensor_without_data_is_refused(void **state)
{
    ap_buf bytes;
    ap_error refusal = {0};
    assert_ok(ap_file_read(ap_test_data("bad_inputs/weight-inspect/tiny.gguf"), 1 << 20, &bytes, err));
    assert_int_equal(open_bytes(bytes.ptr, bytes.len, &refusal), AP_E_FORMAT);
    ap_buf_deinit(&bytes);
    assert_ok(ap_file_read(ap_test_data("bad_inputs/weight-inspect/empty.gguf"), 1 << 20, &bytes, err));
    assert_int_equal(open_bytes(bytes.ptr, bytes.len, &refusal), AP_OK);
    ap_buf_deinit(&bytes);
}

static void anything_but_a_regular_file_is_refused_at_once(void **state)
{
    char folder[] = "/tmp/aperto-test-XXXXXX", path[128];
    assert_non_null(mkdtemp(folder));
    int fd;
    ap_error err = {0};
    uint64_t start = ap_clock_ns();
    (void)snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(ap_file_open(path, &fd, &err), AP_E_ARG);
    assert_non_null(strstr(err.message, "a pipe"));
    unlink(path);
    assert_int_equal(ap_file_open("/dev/zero", &fd, &err), AP_E_ARG);
    assert_int_equal(ap_file_open("/dev/random", &fd, &err), AP_E_ARG);
    assert_int_equal(ap_file_open(folder, &fd, &err), AP_E_ARG);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_not_equal(ap_file_open(address.sun_path, &fd, &err), AP_OK);
    close(s);
    unlink(address.sun_path);
    rmdir(folder);
    assert_true(ap_clock_ns() - start < 1000000000u);
}

/* ---- For showing ---- */

static void text_for_showing_is_whole_and_inert(void **state)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"plain \xc3\xa4\xe2\x82\xac", "plain \xc3\xa4\xe2\x82\xac"},
        {"\x1b[2J \xc2\x9b" "2J\n\x7f", "?[2J ?2J??"},
        {"a\xe2\x80\xae" "b\xe2\x81\xa6" "c", "a?b?c"},
        {"\xff\xe2\x82", "??"},
        {"12345678901234\xc3\xa4", "12345678901234"}, /* the room is 16 bytes: no half character */
        {"123456789012345\xc3\xa4", "123456789012345"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_gguf_writer *w;
        assert_ok(ap_gguf_writer_create(&w, 32, err));
        assert_ok(ap_gguf_writer_str(w, "general.name", ap_str_from(cases[i].text), err));
        int fd = ap_test_temporary();
        assert_ok(ap_gguf_writer_begin(w, fd, err));
        assert_ok(ap_gguf_writer_end(w, NULL, err));
        ap_gguf_writer_destroy(&w);
        ap_mapping file;
        assert_ok(ap_file_map(fd, &file, err));
        ap_gguf *g;
        assert_ok(ap_gguf_open(&g, file.ptr, file.len, err));
        char shown[16];
        ap_gguf_copy_str(g, "general.name", shown, sizeof shown);
        assert_string_equal(shown, cases[i].shown);
        memset(shown, 'x', sizeof shown);
        ap_gguf_copy_str(g, "general.name", shown, 0); /* no room: nothing is written */
        ap_gguf_copy_str(g, "absent", shown, 0);
        assert_true(shown[0] == 'x');
        ap_gguf_copy_str(g, "general.name", shown, 1);
        assert_true(shown[0] == 0 && shown[1] == 'x');
        ap_gguf_copy_str(g, "absent", shown, sizeof shown);
        assert_string_equal(shown, "");
        ap_gguf_close(&g);
        ap_file_unmap(&file);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_reads_what_another_writer_wrote),
        cmocka_unit_test(gguf_refuses_every_truncation),
        cmocka_unit_test(gguf_refuses_a_cut_at_every_edge_of_a_tensor),
        cmocka_unit_test(gguf_refuses_every_length_that_is_one_too_long),
        cmocka_unit_test(gguf_survives_every_flipped_bit_of_the_header),
        cmocka_unit_test(gguf_refuses_absurd_counts_without_memory),
        cmocka_unit_test(gguf_survives_absurd_numbers_anywhere),
        cmocka_unit_test(gguf_refuses_versions_it_does_not_know),
        cmocka_unit_test(gguf_refuses_bad_tensors),
        cmocka_unit_test(gguf_refuses_bad_keys),
        cmocka_unit_test(gguf_refusal_after_the_longest_header_keeps_to_its_memory),
        cmocka_unit_test(gguf_survives_the_collected_bad_files),
        cmocka_unit_test(gguf_declared_tensor_without_data_is_refused),
        cmocka_unit_test(anything_but_a_regular_file_is_refused_at_once),
        cmocka_unit_test(text_for_showing_is_whole_and_inert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
