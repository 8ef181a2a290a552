/* The interface between a pump and its channels. */

#ifndef TAGCACHE_CHANNEL_H
#define TAGCACHE_CHANNEL_H

#include "plain.h"

/* The most bytes that are read at once from one client. */
#define INPUT_BYTES (64 * 1024)
/* How many sockets are read before their requests are answered. */
#define SOCKETS_AT_ONCE 16
/* Replies to one chunk that are sent together. */
#define OUTPUT_BYTES (256 * 1024)
/* With more unsent bytes than this, the owner is told not to write. */
#define HIGH_WATER (64 * 1024)
#define MOST_TIMED 64

/* How many seconds natively answered chunks took, of requests with the same verb. */
typedef struct {
    double durations[MOST_TIMED];
    PyObject *verbs[MOST_TIMED];
    int count, most;
} Timed;

typedef struct {
    PyObject_HEAD
    int epoll;
    PyObject *channels; /* set: the open ones */
    char *input; /* 2 * INPUT_BYTES */
    Output output;
    bool python_ran; /* it may have scheduled something, so `run` returns */
    bool has_called_cache; /* the same, but `run` may go on for a while if more is waiting */
    Timed timed, http_timed; /* on the cache port; in HTTP */
    double slow_seconds; /* the owner gets a report of chunks that took at least this long */
} Pump;

/* One socket. The owner has these methods. They are never called from within another method of the
 * channel, except `full`: full(), drained(), read_ended(), lost(errno),
 * slow(seconds, requests, verb). */
typedef struct {
    PyObject_HEAD
    Pump *pump; /* NULL once it is closed */
    PyObject *owner;
    /* Called with the bytes that were read. With `plain`, it may be called once more after pause():
     * another connection's requests, which were read at the same time, may come first. */
    PyObject *received;
    PlainRequests *plain; /* NULL: Python answers everything */
    Answers answers;
    int socket;
    uint32_t watched;   /* the events that epoll waits for */
    bool is_registered; /* with epoll */
    bool reads;
    bool tells_drained; /* call drained() once nothing is unsent */
    int error;          /* of a send; the owner is told later */
    char *unsent;
    size_t unsent_start, unsent_end, unsent_capacity;
    /* The counts of requests answered here since they were last taken. */
    long long bytes_in, bytes_out, counts[VERBS];
    enum verb last_verb;
    double last_active;
} Channel;

/* Tell epoll what to wait for. */
void channel_watch(Channel *self);

/* Note that the connection has failed; the owner is told later. */
void channel_fail(Channel *self, int error);

/* Send at once as much as the kernel accepts, and keep the rest. -1 with an exception. */
int channel_send(Channel *self, const char *bytes, size_t length);

/* Stop waiting for events. */
void channel_forget(Channel *self);

/* Call the owner, with an errno unless it is negative; Python's hook logs any exception, which ends
 * the connection. */
void channel_tell(Channel *self, const char *method, int error);

/* Send what could not be sent earlier, and tell the owner once all is sent. */
void channel_send_unsent(Channel *self);

/* Answer the plain requests at the beginning of the input; return how many bytes they take. `ahead`
 * is the first one, if it was read already. */
size_t channel_answer_plain(Channel *self, const char *input, size_t length, const Ahead *ahead,
                            double now);

/* What was read from one socket, and the first request of it. */
typedef struct {
    Channel *channel;
    const char *input;
    size_t length;
    enum dialect dialect;
    Ahead ahead;
} Chunk;

/* What was read and not answered yet; see receiving.c. */
typedef struct {
    Pump *pump;
    double now;
    size_t count, bytes;
    Chunk chunks[SOCKETS_AT_ONCE];
} Reading;

/* Handle events of epoll; what is read may be answered later. Never leaves an exception set. */
void channel_handle(Reading *reading, Channel *self, uint32_t events);

/* Answer all that was read. Never leaves an exception set. */
void answer_all(Reading *reading);

#endif
