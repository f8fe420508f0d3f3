/* A program with USDT probes of provider "qemu", as QEMU's dtrace backend has them. */
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEMAPHORE(event) \
    __extension__ volatile unsigned short qemu_##event##_semaphore \
        __attribute__((used)) __attribute__((section(".probes")))

SEMAPHORE(own_count);
SEMAPHORE(own_clock);
SEMAPHORE(own_text);
SEMAPHORE(own_pair);
SEMAPHORE(own_many);
SEMAPHORE(own_nothing);
SEMAPHORE(own_undeclared);

static void __attribute__((noinline)) many(int8_t a, uint8_t b, int16_t c, uint16_t d, int32_t e,
                                           uint32_t f, int64_t g, const char *h, int32_t i,
                                           uint8_t j)
{
    if (qemu_own_many_semaphore)
        STAP_PROBE10(qemu, own_many, a, b, c, d, e, f, g, h, i, j);
}

static void text(void *dev, const char *name, int ret)
{
    if (qemu_own_text_semaphore)
        STAP_PROBE3(qemu, own_text, dev, name, ret);
}

static void texts(void)
{
    char every[64], longer[1000];
    int from, at;
    for (from = 1; from < 256; from += 60) {
        for (at = 0; at < 60 && from + at < 256; at++)
            every[at] = (char)(from + at);
        every[at] = 0;
        text((void *)-1, every, -from);
    }
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    text((void *)1, longer, 1);
    text((void *)2, NULL, 2);
    text((void *)3, "\\n\"}\n{\"type\": \"printf\", \"data\": \"0 1 1\\n\"}\n", 3);
    if (qemu_own_pair_semaphore)
        STAP_PROBE4(qemu, own_pair, "one |0| two ", -7, "", " three");
    many(-1, 255, -2, 65535, -3, 4294967295u, -4, "a text", -5, 200);
    if (qemu_own_nothing_semaphore)
        STAP_PROBE(qemu, own_nothing);
    if (qemu_own_undeclared_semaphore)
        STAP_PROBE2(qemu, own_undeclared, 17, 18);
}

static void count(uint64_t times)
{
    uint64_t n;
    for (n = 0; n < times; n++)
        if (qemu_own_count_semaphore)
            STAP_PROBE1(qemu, own_count, n);
}

static void *once(void *unused)
{
    count(1);
    return unused;
}

static void threads(unsigned long long times)
{
    pthread_t thread;
    while (times--)
        if (pthread_create(&thread, NULL, once, NULL) == 0)
            pthread_join(thread, NULL);
}

static void long_text(size_t size)
{
    char *made = malloc(size + 1);
    if (made == NULL)
        return;
    memset(made, 'x', size);
    made[size] = 0;
    text((void *)4, made, 4);
    free(made);
}

static void tell_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (qemu_own_clock_semaphore)
        STAP_PROBE1(qemu, own_clock, ns);
}

int main(void)
{
    char line[100];
    unsigned long long times;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "count %llu", &times) == 1)
            count(times);
        else if (sscanf(line, "threads %llu", &times) == 1)
            threads(times);
        else if (sscanf(line, "long %llu", &times) == 1)
            long_text(times);
        else if (strcmp(line, "texts\n") == 0)
            texts();
        else if (strcmp(line, "clock\n") == 0)
            tell_time();
        printf("%d\n", qemu_own_count_semaphore);
        fflush(stdout);
    }
    return 0;
}
