/* Tracepoints of provider `qemu`, as QEMU's tracetool would make them, and few. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER qemu
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "./ust_events.h"
#if !defined(QTCTL_UST_EVENTS_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define QTCTL_UST_EVENTS_H
#include <lttng/tracepoint.h>
#include <stdint.h>
LTTNG_UST_TRACEPOINT_EVENT(
    qemu, own_count,
    LTTNG_UST_TP_ARGS(uint64_t, n),
    LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(uint64_t, n, n)))
LTTNG_UST_TRACEPOINT_EVENT(
    qemu, own_clock,
    LTTNG_UST_TP_ARGS(uint64_t, ns),
    LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(uint64_t, ns, ns)))
LTTNG_UST_TRACEPOINT_EVENT(
    qemu, own_text,
    LTTNG_UST_TP_ARGS(void *, dev, const char *, name, int, ret),
    LTTNG_UST_TP_FIELDS(
        lttng_ust_field_integer_hex(unsigned long, dev, (unsigned long)dev)
        lttng_ust_field_string(name, name)
        lttng_ust_field_integer(int, ret, ret)))
LTTNG_UST_TRACEPOINT_EVENT(
    qemu, own_submit,
    LTTNG_UST_TP_ARGS(void *, req, int, number),
    LTTNG_UST_TP_FIELDS(
        lttng_ust_field_integer_hex(unsigned long, req, (unsigned long)req)
        lttng_ust_field_integer(int, number, number)))
LTTNG_UST_TRACEPOINT_EVENT(
    qemu, own_complete,
    LTTNG_UST_TP_ARGS(void *, req),
    LTTNG_UST_TP_FIELDS(lttng_ust_field_integer_hex(unsigned long, req, (unsigned long)req)))
LTTNG_UST_TRACEPOINT_EVENT(qemu, own_nothing, LTTNG_UST_TP_ARGS(), LTTNG_UST_TP_FIELDS())
#endif
#include <lttng/tracepoint-event.h>
