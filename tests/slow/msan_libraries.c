/* msan_libraries.c - MemorySanitizer sees only writes of code that was built with it.  Preloaded, this tells it what
 * the C library, libsodium, PCRE2, jansson, utf8proc and libcurl wrote for us; all else of theirs that is called returns plain numbers.
 *
 * Built without the sanitizer (sanitizers.sh); in a program without it, it does nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#define PCRE2_CODE_UNIT_WIDTH 8
#include <curl/curl.h>
#include <dlfcn.h>
#include <jansson.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utf8proc.h>

void __msan_unpoison(const volatile void *bytes, size_t count) __attribute__((weak));
void __msan_scoped_disable_interceptor_checks(void) __attribute__((weak));
void __msan_scoped_enable_interceptor_checks(void) __attribute__((weak));

static void written(const volatile void *bytes, size_t count)
{
    if (__msan_unpoison)
        __msan_unpoison(bytes, count);
}

#define NAME(name) #name
/* Wraps `name`: calls the next of that name, then tells of `count` bytes at `out`. */
#define WRAP(type, name, parameters, arguments, out, count)     \
    type name parameters;                                       \
    type name parameters                                        \
    {                                                           \
        type(*next) parameters;                                 \
        *(void **)&next = dlsym(RTLD_NEXT, NAME(name));         \
        type result = next arguments;                           \
        written(out, count);                                    \
        return result;                                          \
    }

/* Debian's clang 14 does not know these of a C library of today. */
WRAP(int, fstat, (int fd, struct stat *out), (fd, out), out, sizeof *out)
WRAP(int, fstat64, (int fd, struct stat64 *out), (fd, out), out, sizeof *out)
WRAP(int, stat, (const char *path, struct stat *out), (path, out), out, sizeof *out)
WRAP(int, stat64, (const char *path, struct stat64 *out), (path, out), out, sizeof *out)

typedef unsigned char byte;
WRAP(int, crypto_shorthash, (byte *out, const byte *in, unsigned long long n, const byte *key), (out, in, n, key), out, 8)
WRAP(int, crypto_generichash_final, (void *state, byte *out, size_t n), (state, out, n), out, n)
WRAP(int, crypto_hash_sha256_final, (void *state, byte *out), (state, out), out, 32)
WRAP(char *, sodium_bin2hex, (char *out, size_t room, const byte *in, size_t n), (out, room, in, n), out, 2 * n + 1)

WRAP(int, sodium_base642bin,
     (byte *out, size_t room, const char *in, size_t n, const char *ignore, size_t *length, const char **end, int variant),
     (out, room, in, n, ignore, length, end, variant), out, result == 0 && length ? (written(length, sizeof *length), *length) : 0)

WRAP(utf8proc_ssize_t, utf8proc_decompose_char,
     (utf8proc_int32_t code, utf8proc_int32_t *out, utf8proc_ssize_t room, utf8proc_option_t options, int *last),
     (code, out, room, options, last), out, result > 0 && result <= room ? (size_t)result * sizeof *out : 0)

void randombytes_buf(void *out, size_t count);
void randombytes_buf(void *out, size_t count)
{
    void (*next)(void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "randombytes_buf");
    next(out, count);
    written(out, count);
}

WRAP(PCRE2_SIZE *, pcre2_get_ovector_pointer, (pcre2_match_data *data), (data), result, 2 * sizeof *result)
WRAP(pcre2_code *, pcre2_compile, (PCRE2_SPTR text, PCRE2_SIZE n, uint32_t options, int *code, PCRE2_SIZE *at, pcre2_compile_context *context),
     (text, n, options, code, at, context), code, sizeof *code)
WRAP(int, pcre2_get_error_message, (int code, PCRE2_UCHAR *out, PCRE2_SIZE room), (code, out, room), out, room)

/* The block that a callout is given lies on PCRE2's stack; there is one callout. */
static int (*callout)(pcre2_callout_block *, void *);

static int call_out(pcre2_callout_block *block, void *data)
{
    written(block, sizeof *block);
    return callout(block, data);
}

int pcre2_set_callout(pcre2_match_context *context, int (*function)(pcre2_callout_block *, void *), void *data)
{
    int (*next)(pcre2_match_context *, int (*)(pcre2_callout_block *, void *), void *);
    *(void **)&next = dlsym(RTLD_NEXT, "pcre2_set_callout_8");
    callout = function;
    return next(context, call_out, data);
}

/* What jansson builds lies in memory that counts as written from the start. */
static void *zeroed(size_t count) { return calloc(1, count); }

__attribute__((constructor)) static void use_zeroed(void)
{
    void (*set)(json_malloc_t, json_free_t);
    *(void **)&set = dlsym(RTLD_DEFAULT, "json_set_alloc_funcs");
    if (set && __msan_unpoison)
        set(zeroed, free);
}

/* It also hands its own stack to the C library, whose every function is watched; so does libcurl. */
static void watch(bool is_on)
{
    void (*call)(void) = is_on ? __msan_scoped_enable_interceptor_checks : __msan_scoped_disable_interceptor_checks;
    if (call)
        call();
}

json_t *json_loadb(const char *text, size_t length, size_t flags, json_error_t *error)
{
    json_t *(*next)(const char *, size_t, size_t, json_error_t *);
    *(void **)&next = dlsym(RTLD_NEXT, "json_loadb");
    watch(false);
    json_t *result = next(text, length, flags, error);
    watch(true);
    if (error)
        written(error, sizeof *error);
    return result;
}

typedef struct dump {
    json_dump_callback_t add;
    void *context;
} dump;

static int add_written(const char *text, size_t length, void *context)
{
    const dump *d = context;
    written(text, length);
    watch(true);
    int result = d->add(text, length, d->context);
    watch(false);
    return result;
}

int json_dump_callback(const json_t *json, json_dump_callback_t add, void *context, size_t flags)
{
    int (*next)(const json_t *, json_dump_callback_t, void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "json_dump_callback");
    dump d = {add, context};
    watch(false);
    int result = next(json, add_written, &d, flags);
    watch(true);
    return result;
}

CURLUcode curl_url_set(CURLU *url, CURLUPart part, const char *text, unsigned flags)
{
    CURLUcode (*next)(CURLU *, CURLUPart, const char *, unsigned);
    *(void **)&next = dlsym(RTLD_NEXT, "curl_url_set");
    watch(false);
    CURLUcode result = next(url, part, text, flags);
    watch(true);
    return result;
}

CURLUcode curl_url_get(CURLU *url, CURLUPart part, char **text, unsigned flags)
{
    CURLUcode (*next)(CURLU *, CURLUPart, char **, unsigned);
    *(void **)&next = dlsym(RTLD_NEXT, "curl_url_get");
    watch(false);
    CURLUcode result = next(url, part, text, flags);
    written(text, sizeof *text);
    if (result == CURLUE_OK)
        written(*text, strlen(*text) + 1);
    watch(true);
    return result;
}
