/* Makes calls on paths below a folder fail: each failure takes one file out of another folder.

Preloaded into every process of a build. FAIL_BELOW is the folder whose paths fail, FAIL_TOKENS the
folder with a file for each failure that is still to come, FAIL_ERRNO the error, FAIL_CALL which
calls: `open` (for reading as well), `write` or `rename`. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int take_token(void) {
    const char *folder = getenv("FAIL_TOKENS");
    DIR *listing = folder ? opendir(folder) : NULL;
    struct dirent *entry;
    int taken = 0;
    if (!listing) return 0;
    while (!taken && (entry = readdir(listing)))
        taken = entry->d_name[0] != '.' && !unlinkat(dirfd(listing), entry->d_name, 0);
    closedir(listing);
    return taken;
}

static int below(const char *path) {
    const char *folder = getenv("FAIL_BELOW");
    char absolute[PATH_MAX], here[PATH_MAX];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(here, sizeof here)) return 0;
        if (snprintf(absolute, sizeof absolute, "%s/%s", here, path) >= PATH_MAX) return 0;
        path = absolute;
    }
    return !strncmp(path, folder, strlen(folder)) && path[strlen(folder)] == '/';
}

static int fails(const char *call, const char *path) {
    const char *wanted = getenv("FAIL_CALL");
    if (!wanted || strcmp(wanted, call) || !below(path) || !take_token()) return 0;
    errno = atoi(getenv("FAIL_ERRNO"));
    return 1;
}

#define OPEN(name, first, given, path)                                              \
    int name(first const char *path, int flags, ...) {                              \
        static int (*real)(first const char *, int, ...);                           \
        va_list rest;                                                               \
        mode_t mode;                                                                \
        va_start(rest, flags);                                                      \
        mode = va_arg(rest, mode_t);                                                \
        va_end(rest);                                                               \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                       \
        if (!(flags & O_DIRECTORY) && fails("open", path)) return -1;               \
        return real(given path, flags, mode);                                       \
    }
#define COMMA ,
OPEN(open, , , path)
OPEN(open64, , , path)
OPEN(openat, int folder COMMA, folder COMMA, path)
OPEN(openat64, int folder COMMA, folder COMMA, path)

ssize_t write(int descriptor, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    char link[64], path[PATH_MAX];
    ssize_t length;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (getenv("FAIL_BELOW")) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        if (fails("write", path)) return -1;
    }
    return real(descriptor, data, size);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "rename");
    return fails("rename", to) ? -1 : real(from, to);
}
