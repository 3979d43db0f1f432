/* make_telling.c - writes the model of telling_model_weather to a path: make_telling OUT.gguf
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <unistd.h>

#include "support.h"
#include "telling_model.h"

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (fd < 0)
        return 2;
    telling_model_weather(fd);
    return close(fd) != 0;
}
