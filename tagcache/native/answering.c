/* Answer requests on a channel, count them, and measure how long they take. */

#include "channel.h"

#include <errno.h>

/* Count requests that were answered, and record how long they took. */
static void
note(Channel *self, Pump *pump, const long long counts[VERBS], double started)
{
    long long requests = 0;
    for (int verb = 0; verb < VERBS; verb++) {
        self->counts[verb] += counts[verb];
        requests += counts[verb];
        if (counts[verb] > 0) {
            /* Report one of the requests that arrived together. */
            self->last_verb = (enum verb)verb;
        }
    }
    Timed *timed = self->answers.dialect == HTTP ? &pump->http_timed : &pump->timed;
    PyObject *verbs = self->answers.verbs;
    bool is_timed = timed->count < timed->most && verbs != NULL &&
                    self->last_verb < PyTuple_GET_SIZE(verbs) &&
                    requests == counts[self->last_verb];
    if (requests == 0 || (requests == counts[LOOK_UP] && !is_timed)) {
        return;
    }
    double took = seconds() - started;
    if (is_timed) {
        timed->verbs[timed->count] = Py_NewRef(PyTuple_GET_ITEM(verbs, self->last_verb));
        timed->durations[timed->count++] = took;
    }
    if (took >= pump->slow_seconds && self->owner != NULL) {
        PyObject *result = PyObject_CallMethod(self->owner, "slow", "dLi", took, requests,
                                               (int)self->last_verb);
        if (result == NULL) {
            PyErr_WriteUnraisable(self->owner);
        }
        Py_XDECREF(result);
    }
}

size_t
channel_answer_plain(Channel *self, const char *input, size_t length, const Ahead *ahead,
                     double now)
{
    /* The owner may close the channel meanwhile, when it is told that much is unsent. */
    Pump *pump = self->pump;
    Output *output = &pump->output;
    PlainRequests *plain = (PlainRequests *)Py_NewRef((PyObject *)self->plain);
    long long counts[VERBS] = {0};
    double started = seconds();
    output->length = 0;
    plain->called_python = false;
    Py_ssize_t done = plain_answer(plain, &self->answers, input, length, ahead, now, output,
                                   counts);
    pump->has_called_cache = pump->has_called_cache || plain->called_python;
    Py_DECREF(plain);
    if (done < 0 || channel_send(self, output->bytes, output->length) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
        channel_fail(self, EIO);
        return length;
    }
    self->bytes_in += done;
    self->bytes_out += (long long)output->length;
    self->last_active = now;
    note(self, pump, counts, started);
    return (size_t)done;
}
