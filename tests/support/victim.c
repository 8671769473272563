/* The only program in the test images. What it does is its first argument:
 *   (none), run    waits for ever, exits 0 at once on SIGTERM
 *   stubborn       waits for ever, ignores SIGTERM
 *   exit N         exits with N at once
 *   sleep SECONDS  exits 0 after so many seconds, or on SIGTERM
 *   beat FILE MICROSECONDS  writes into a shared page when it began, and again and again that it lives: two
 *                  64-bit numbers, nanoseconds of CLOCK_MONOTONIC, which all containers of a host share
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void quit(int signal) {
    (void)signal;
    _exit(0);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static int beat(const char *file, long microseconds) {
    uint64_t begun = now();
    struct timespec pause = {0, microseconds * 1000};
    int page = open(file, O_RDWR);
    volatile uint64_t *words = mmap(0, 16, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    if (words == MAP_FAILED)
        return 65;
    for (words[0] = begun;; nanosleep(&pause, 0))
        words[1] = now();
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "run";
    signal(SIGTERM, strcmp(what, "stubborn") == 0 ? SIG_IGN : quit);
    if (strcmp(what, "run") == 0 || strcmp(what, "stubborn") == 0)
        for (;;)
            pause();
    if (argc > 3 && strcmp(what, "beat") == 0)
        return beat(argv[2], atol(argv[3]));
    if (argc > 2 && strcmp(what, "exit") == 0)
        return atoi(argv[2]);
    if (argc > 2 && strcmp(what, "sleep") == 0) {
        sleep((unsigned)atoi(argv[2]));
        return 0;
    }
    return 64;
}
