/* The only program in the test images. What it does is its first argument:
 *   (none), run    waits for ever, exits 0 at once on SIGTERM
 *   stubborn       waits for ever, ignores SIGTERM
 *   exit N         exits with N at once
 *   sleep SECONDS  exits 0 after so many seconds, or on SIGTERM
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void quit(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "run";
    signal(SIGTERM, strcmp(what, "stubborn") == 0 ? SIG_IGN : quit);
    if (strcmp(what, "run") == 0 || strcmp(what, "stubborn") == 0)
        for (;;)
            pause();
    if (argc > 2 && strcmp(what, "exit") == 0)
        return atoi(argv[2]);
    if (argc > 2 && strcmp(what, "sleep") == 0) {
        sleep((unsigned)atoi(argv[2]));
        return 0;
    }
    return 64;
}
