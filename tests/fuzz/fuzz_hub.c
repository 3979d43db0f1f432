/* Any bytes as what a hub answers, and as what a user writes.
 *
 * The first byte chooses: a page of a repository's tree (then what is chosen of it), a source, a Content-Range, a
 * redirect.  Holds: every path that is accepted stays inside, every file that is chosen has a plain name of its own,
 * and a refusal is one line.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "fetch/address.h"
#include "fetch/exchange.h"
#include "fetch/hub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static bool is_model_file(const char *name) { return strlen(name) > 5; }

static void check_path(const char *path)
{
    size_t length = strlen(path);
    hold(length >= 1 && length <= AP_HUB_PATH_MAX && path[0] != '/' && path[length - 1] != '/' && !strchr(path, '\\') && !strstr(path, "//"));
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        hold(n >= 1 && n <= AP_HUB_NAME_MAX && !(n == 1 && part[0] == '.') && !(n == 2 && part[0] == '.' && part[1] == '.'));
    }
}

static void choose(const ap_hub_tree *tree, const char *file)
{
    ap_error err = {0};
    ap_hub_source source = {.repo = "org/repo", .revision = "main"};
    ap_hub_choice choice;
    char text[1001];
    (void)snprintf(source.file, sizeof source.file, "%s", file);
    if (ap_hub_choose(tree, &source, is_model_file, &choice, &err) != AP_OK) {
        hold(err.message[0] && !strchr(err.message, '\n'));
        return;
    }
    hold(choice.count >= 1 && choice.count <= AP_HUB_CHOSEN_MAX && strlen(choice.digest) == 64);
    for (size_t i = 0; i < choice.count; i++) {
        hold(!strchr(ap_hub_plain_name(choice.files[i]), '/'));
        for (size_t k = 0; k < i; k++) /* no two lie in one place */
            hold(choice.is_folder ? strcmp(choice.files[i]->path, choice.files[k]->path) != 0
                                  : strcmp(ap_hub_plain_name(choice.files[i]), ap_hub_plain_name(choice.files[k])) != 0);
    }
    ap_hub_source_write(&source, &choice, text);
    hold(strlen(text) < sizeof text - 1);
}

static void read_tree(ap_str text)
{
    ap_error err = {0};
    ap_hub_tree tree = {0};
    ap_status status = ap_hub_read_page(&tree, text, &err);
    hold(status == AP_OK || (err.message[0] && !strchr(err.message, '\n')));
    for (size_t i = 0; i < tree.count; i++) {
        const ap_hub_file *f = &tree.files[i];
        check_path(f->path);
        hold(f->bytes <= AP_TRANSFER_BYTES_MAX && (strlen(f->sha256) == 64) + (strlen(f->sha1) == 40) == 1);
    }
    choose(&tree, "");
    choose(&tree, "safetensors");
    choose(&tree, "Q4_K_M");
    if (tree.count)
        choose(&tree, tree.files[tree.count - 1].path);
    ap_hub_tree_deinit(&tree);
}

static void read_source(const char *text)
{
    ap_error err = {0};
    ap_hub_source source, again;
    const ap_hub_choice folder = {.is_folder = true};
    char written[1001];
    if (strncmp(text, "hf:", 3) != 0)
        return;
    if (ap_hub_source_read(&source, text, &err) != AP_OK) {
        hold(err.message[0]);
        return;
    }
    hold(!strstr(source.repo, "..") && strchr(source.repo, '/') == strrchr(source.repo, '/') && !strstr(source.revision, ".."));
    ap_hub_source_write(&source, &folder, written);
    hold(ap_hub_source_read(&again, written, NULL) == AP_OK && strcmp(again.repo, source.repo) == 0 &&
         strcmp(again.file, source.file) == 0 && strcmp(again.revision, source.revision) == 0);
}

static void follow(ap_str location)
{
    char out[AP_ADDRESS_ROOM];
    ap_error err = {0};
    if (ap_address_follow("https://example.org/a/b", location, NULL, out, &err) != AP_OK)
        hold(err.message[0] && !strchr(err.message, '\n'));
    else
        hold(strncmp(out, "https://", 8) == 0 && !ap_address_is_loopback(out) && !strchr(out, '\n') && !strchr(out, ' '));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t first, last, total;
    if (size < 1)
        return 0;
    char *text = ap_strndup((const char *)data + 1, size - 1); /* exactly as long as it is, for the sanitizer */
    if (!text)
        return 0;
    ap_str bytes = {text, size - 1};
    switch (data[0] % 4) {
    case 0: read_tree(bytes); break;
    case 1: read_source(text); break;
    case 2:
        if (ap_transfer_read_range(bytes, &first, &last, &total))
            hold(first <= last && last < total);
        break;
    default: follow(bytes);
    }
    ap_free(text);
    return 0;
}
