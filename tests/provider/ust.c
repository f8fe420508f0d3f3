/*
 * Emits tracepoints of provider `qemu` as stdin asks for, a line each, and answers each on stdout:
 *   count N   N times own_count, as fast as it goes
 *   clock     own_clock with CLOCK_REALTIME in ns
 *   pairs N   N times own_submit and, a millisecond later, own_complete
 *   texts     own_text with every byte a C string can hold, and own_nothing
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "ust_events.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

int main(void)
{
    char line[64], all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = 0;
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long n = 0;
        if (sscanf(line, "count %llu", &n) == 1) {
            for (unsigned long long i = 0; i < n; i++)
                lttng_ust_tracepoint(qemu, own_count, i);
        } else if (sscanf(line, "pairs %llu", &n) == 1) {
            for (unsigned long long i = 0; i < n; i++) {
                lttng_ust_tracepoint(qemu, own_submit, (void *)(0x1000 + i), (int)i);
                nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
                lttng_ust_tracepoint(qemu, own_complete, (void *)(0x1000 + i));
            }
        } else if (strncmp(line, "clock", 5) == 0) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            lttng_ust_tracepoint(qemu, own_clock,
                                 (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
        } else {
            lttng_ust_tracepoint(qemu, own_text, (void *)~0ul, all, -1);
            lttng_ust_tracepoint(qemu, own_text, NULL,
                                 "x\", y = \"z\\n \n[1.000000002] qemu:own_count: { 0 }, {", 7);
            lttng_ust_tracepoint(qemu, own_nothing);
        }
        printf("done\n");
        fflush(stdout);
    }
    return 0;
}
