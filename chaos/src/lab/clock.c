/* The wall clock of the process that loads this, off by what a control file says. Timers stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

/* Nanoseconds ahead; seconds more in each second, and since when that is so. */
struct control {
    _Atomic int64_t offset, rate, since;
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CAIRN_CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) control = at;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, id, time);
    if (failed || !control || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return failed;
    int64_t off = atomic_load(&control->offset), rate = atomic_load(&control->rate);
    if (rate) {
        struct timespec now;
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        off += (now.tv_sec * SECOND + now.tv_nsec - atomic_load(&control->since)) * rate;
    }
    int64_t all = time->tv_sec * SECOND + time->tv_nsec + off;
    time->tv_sec = all / SECOND;
    time->tv_nsec = all % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
