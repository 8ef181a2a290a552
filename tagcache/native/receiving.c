/* Receiving: read from sockets, answer plain requests, and give all the rest to the owners.
 *
 * Several sockets are read before the first request is answered, so that the waits for the memory
 * of all entries overlap. */

#include "channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

_Static_assert(SOCKETS_AT_ONCE <= KEYS_AT_ONCE, "one key of each socket is prefetched");

static void
hand_to_python(Channel *self, const char *input, size_t length)
{
    self->pump->python_ran = true;
    PyObject *received = Py_NewRef(self->received);
    PyObject *data = PyBytes_FromStringAndSize(input, (Py_ssize_t)length);
    PyObject *result = data == NULL ? NULL : PyObject_CallOneArg(received, data);
    if (result == NULL) {
        PyErr_WriteUnraisable(received);
        channel_fail(self, EIO);
    }
    Py_XDECREF(result);
    Py_XDECREF(data);
    Py_DECREF(received);
}

static bool
may_answer(const Channel *self)
{
    return self->plain != NULL && self->unsent_end == self->unsent_start;
}

/* Whether the request that was read ahead may be answered: another connection, which was answered
 * since, may have changed that. */
static bool
is_current(const Chunk *chunk, double now)
{
    const Answers *answers = &chunk->channel->answers;
    return chunk->ahead.key.bytes != NULL && chunk->dialect == answers->dialect &&
           (chunk->dialect != HTTP || is_accepted(answers->heads, chunk->ahead.request.verb, now));
}

static void
answer_chunk(const Chunk *chunk, double now)
{
    Channel *self = chunk->channel;
    size_t done = 0;
    if (self->pump != NULL && may_answer(self)) {
        done = channel_answer_plain(self, chunk->input, chunk->length,
                                    is_current(chunk, now) ? &chunk->ahead : NULL, now);
    }
    if (done < chunk->length && self->pump != NULL) {
        hand_to_python(self, chunk->input + done, chunk->length - done);
    }
}

/* Read the first request of each chunk, and prefetch what it will look up. */
static void
prepare(Reading *reading)
{
    Sought sought[SOCKETS_AT_ONCE];
    size_t plain = 0;
    for (size_t at = 0; at < reading->count; at++) {
        Chunk *chunk = &reading->chunks[at];
        const Channel *channel = chunk->channel;
        chunk->ahead.key.bytes = NULL;
        if (channel->pump != NULL && may_answer(channel)) {
            chunk->dialect = channel->answers.dialect;
            if (read_ahead(&channel->answers, chunk->input, chunk->length, reading->now,
                           &chunk->ahead)) {
                Py_hash_t hash = chunk->ahead.key.hash;
                sought[plain++] = (Sought){table_of(channel->plain, hash), hash,
                                           is_store(chunk->ahead.request.verb)};
            }
        }
    }
    prefetch(sought, plain);
}

void
answer_all(Reading *reading)
{
    prepare(reading);
    for (size_t at = 0; at < reading->count; at++) {
        answer_chunk(&reading->chunks[at], reading->now);
        Py_XDECREF(reading->chunks[at].ahead.key.bytes);
    }
    reading->count = reading->bytes = 0;
}

static void
receive(Reading *reading, Channel *self)
{
    char *input = reading->pump->input + reading->bytes;
    ssize_t length = recv(self->socket, input, INPUT_BYTES, 0);
    if (length > 0) {
        Chunk *chunk = &reading->chunks[reading->count++];
        chunk->channel = self;
        chunk->input = input;
        chunk->length = (size_t)length;
        reading->bytes += (size_t)length;
    } else if (length == 0) {
        self->reads = false;
        channel_watch(self);
        channel_tell(self, "read_ended", -1);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        channel_tell(self, "lost", errno);
    }
}

/* Handle other events than plain requests. */
static void
handle_unusual(Reading *reading, Channel *self, uint32_t events)
{
    if (self->pump != NULL && (events & EPOLLOUT) && self->error == 0) {
        channel_send_unsent(self);
    }
    if (self->pump != NULL && self->error != 0) {
        channel_tell(self, "lost", self->error);
        return;
    }
    if (self->pump == NULL || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) {
        return;
    }
    if (self->reads) {
        receive(reading, self);
    } else if (events & EPOLLERR) {
        int error = 0;
        socklen_t length = sizeof(error);
        getsockopt(self->socket, SOL_SOCKET, SO_ERROR, &error, &length);
        channel_tell(self, "lost", error);
    } else if (events & EPOLLHUP) {
        /* Both directions have ended, but not all data is read: resume() comes back here. */
        channel_forget(self);
    }
}

void
channel_handle(Reading *reading, Channel *self, uint32_t events)
{
    bool is_plain = events == EPOLLIN && self->pump != NULL && self->error == 0 && self->reads &&
                    may_answer(self);
    if (is_plain) {
        receive(reading, self);
    } else {
        /* Python may run. So what arrived earlier is answered before, and what it reads at once. */
        answer_all(reading);
        handle_unusual(reading, self, events);
        answer_all(reading);
    }
    if (reading->count == SOCKETS_AT_ONCE || reading->bytes > INPUT_BYTES) {
        answer_all(reading);
    }
}
