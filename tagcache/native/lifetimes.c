/* Times to live: TOUCH, EXPIRE, PEXPIRE, TTL, PTTL; and EXISTS, which is TOUCH in RESP. */

#include "plain.h"

#include <math.h>

static void
write_integer(Output *output, long long number)
{
    append(output, ":-", number < 0 ? 2 : 1);
    append_number(output, (size_t)(number < 0 ? -number : number));
    append(output, "\r\n", 2);
}

/* Milliseconds as a Draft has them, see tagcache/engine/drafting.py. */
static long long
whole_ms(double seconds)
{
    return (long long)(seconds * 1000 + 0.001);
}

/* What TTL or PTTL replies. */
static long long
time_left(const Entry *entry, enum verb verb, double now)
{
    if (entry == NULL) {
        return -2;
    }
    if (isinf(entry->ttl)) {
        return -1;
    }
    long long left = whole_ms(entry->stored + entry->ttl) - whole_ms(now);
    left = left < 0 ? 0 : left;
    return verb == PTTL_LEFT ? left : (left + 500) / 1000;
}

/* TOUCH in the line protocol: the time to live begins now. */
static enum found
answer_touch(PlainRequests *self, const Request *request, const Key *key, Entry *entry, double now,
             Output *output)
{
    long long ms;
    if (request->key.length == 0 || !read_number(request->step, &ms) || ms <= 0 || ms > MOST_MS) {
        return FOR_PYTHON;
    }
    if (entry == NULL) {
        append(output, "NF\n", 3);
        return ANSWERED;
    }
    if (!renew_entry(self, key, entry, (double)ms / 1000, false, now)) {
        return FOR_PYTHON;
    }
    append(output, "TOUCHED\n", 8);
    return ANSWERED;
}

/* EXPIRE and PEXPIRE without conditions. */
static enum found
answer_expire(PlainRequests *self, const Request *request, const Key *key, Entry *entry, double now,
              Output *output)
{
    long long unit_ms = request->verb == EXPIRE ? 1000 : 1, number;
    if (!read_number(request->step, &number) || number <= 0 || number > MOST_MS / unit_ms) {
        return FOR_PYTHON;
    }
    if (entry != NULL) {
        double deadline = (double)(whole_ms(now) + number * unit_ms) / 1000;
        if (deadline <= now || !renew_entry(self, key, entry, deadline - now, true, now)) {
            return FOR_PYTHON;
        }
    }
    write_integer(output, entry != NULL);
    return ANSWERED;
}

enum found
answer_lifetime(PlainRequests *self, enum dialect dialect, const Request *request, const Key *key,
                double now, Output *output)
{
    if (table_of(self, key->hash) == NULL || output->capacity - output->length < FRAME_BYTES) {
        return FOR_PYTHON;
    }
    Entry *entry = find_live(self, key, now);
    if (request->verb == EXPIRE || request->verb == PEXPIRE) {
        return answer_expire(self, request, key, entry, now, output);
    }
    if (request->verb == TOUCH && dialect == LINE) {
        return answer_touch(self, request, key, entry, now, output);
    }
    bool is_time = request->verb == TTL_LEFT || request->verb == PTTL_LEFT;
    write_integer(output, is_time ? time_left(entry, request->verb, now) : entry != NULL);
    return ANSWERED;
}
