/* Pump: waits for many sockets at once, and lets each channel handle its events. */

#include "channel.h"

#include <errno.h>
#include <math.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 256
/* How long calls that the cache has scheduled may wait, in seconds. */
#define LONGEST_DELAY 0.001

/* Pump(descriptor): `run` returns True once the descriptor, another epoll set, has events. */
static PyObject *
pump_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    int outer;
    if (!PyArg_ParseTuple(arguments, "i", &outer)) {
        return NULL;
    }
    Pump *self = (Pump *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->channels = PySet_New(NULL);
    self->input = PyMem_Malloc(2 * INPUT_BYTES);
    self->output.bytes = PyMem_Malloc(OUTPUT_BYTES);
    self->output.capacity = OUTPUT_BYTES;
    self->slow_seconds = INFINITY;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (self->channels == NULL) {
        Py_CLEAR(self);
    } else if (self->input == NULL || self->output.bytes == NULL) {
        Py_CLEAR(self);
        PyErr_NoMemory();
    } else if (self->epoll < 0 || epoll_ctl(self->epoll, EPOLL_CTL_ADD, outer, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* add(descriptor, owner, received): watch a socket, which does not block. */
static PyObject *
pump_add(Pump *self, PyObject *arguments)
{
    int socket;
    PyObject *owner, *received;
    if (!PyArg_ParseTuple(arguments, "iOO", &socket, &owner, &received)) {
        return NULL;
    }
    Channel *channel = (Channel *)ChannelType.tp_alloc(&ChannelType, 0);
    if (channel == NULL) {
        return NULL;
    }
    channel->socket = socket;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = channel};
    if (PySet_Add(self->channels, (PyObject *)channel) < 0) {
        Py_DECREF(channel);
        return NULL;
    }
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, socket, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        (void)PySet_Discard(self->channels, (PyObject *)channel);
        Py_DECREF(channel);
        return NULL;
    }
    channel->is_registered = channel->reads = true;
    channel->watched = EPOLLIN;
    channel->pump = (Pump *)Py_NewRef((PyObject *)self);
    channel->owner = Py_NewRef(owner);
    channel->received = Py_NewRef(received);
    return (PyObject *)channel;
}

/* Milliseconds until a deadline, rounded up; -1 for none. */
static int
milliseconds_until(double deadline)
{
    if (deadline < 0) {
        return -1;
    }
    double left = (deadline - seconds()) * 1000;
    return left <= 0 ? 0 : left > 1e9 ? 1000000000 : (int)left + 1;
}

/* Return whether the outer descriptor has events. */
static bool
handle_all(Pump *self, struct epoll_event *events, int count)
{
    bool outer = false;
    Reading reading = {.pump = self, .now = seconds()};
    /* One client may close another one whose event has not been handled yet. */
    for (int at = 0; at < count; at++) {
        Py_XINCREF(events[at].data.ptr);
    }
    for (int at = 0; at < count; at++) {
        Channel *channel = events[at].data.ptr;
        if (channel == NULL) {
            outer = true;
        } else {
            channel_handle(&reading, channel, events[at].events);
        }
    }
    answer_all(&reading);
    for (int at = 0; at < count; at++) {
        Py_XDECREF(events[at].data.ptr);
    }
    return outer;
}

/* run(seconds): wait for events and handle them, until Python code has run, the outer descriptor
 * has events, or the time is over (negative: no limit). Return whether the outer descriptor has
 * events. */
static PyObject *
pump_run(Pump *self, PyObject *timeout)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    double left = PyFloat_AsDouble(timeout);
    if (PyErr_Occurred()) {
        return NULL;
    }
    double deadline = left < 0 ? -1 : seconds() + left;
    double called = 0; /* the first time that the cache was called; 0: it was not */
    self->python_ran = self->has_called_cache = false;
    while (true) {
        int wait = self->has_called_cache ? 0 : milliseconds_until(deadline);
        int count;
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(self->epoll, events, EVENTS_AT_ONCE, wait);
        Py_END_ALLOW_THREADS
        if (count < 0) {
            if (errno != EINTR) {
                return PyErr_SetFromErrno(PyExc_OSError);
            }
            if (PyErr_CheckSignals() < 0) {
                return NULL;
            }
            Py_RETURN_TRUE;
        }
        bool outer = handle_all(self, events, count);
        bool is_over = milliseconds_until(deadline) == 0;
        if (self->has_called_cache) {
            double now = seconds();
            called = called == 0 ? now : called;
            is_over = is_over || count == 0 || now - called > LONGEST_DELAY;
        }
        if (outer || self->python_ran || is_over) {
            return PyBool_FromLong(outer);
        }
    }
}

static void
forget_durations(Timed *timed)
{
    while (timed->count > 0) {
        Py_DECREF(timed->verbs[--timed->count]);
    }
}

/* take_durations(most, of HTTP): return the verb of each measured chunk, and the seconds that it took to
 * answer it natively, on the cache port or in HTTP, and measure up to `most` of the next ones. */
static PyObject *
pump_take_durations(Pump *self, PyObject *arguments)
{
    int most, of_http = 0;
    if (!PyArg_ParseTuple(arguments, "i|p", &most, &of_http)) {
        return NULL;
    }
    Timed *timed = of_http ? &self->http_timed : &self->timed;
    PyObject *durations = PyList_New(timed->count);
    if (durations == NULL) {
        return NULL;
    }
    for (int at = 0; at < timed->count; at++) {
        PyObject *duration = Py_BuildValue("Od", timed->verbs[at], timed->durations[at]);
        if (duration == NULL) {
            Py_DECREF(durations);
            return NULL;
        }
        PyList_SET_ITEM(durations, at, duration);
    }
    forget_durations(timed);
    timed->most = most < MOST_TIMED ? most : MOST_TIMED;
    return durations;
}

static int
pump_traverse(Pump *self, visitproc visit, void *arg)
{
    Py_VISIT(self->channels);
    return 0;
}

static int
pump_clear(Pump *self)
{
    Py_CLEAR(self->channels);
    return 0;
}

static void
pump_dealloc(Pump *self)
{
    PyObject_GC_UnTrack(self);
    pump_clear(self);
    if (self->epoll >= 0) {
        close(self->epoll);
    }
    forget_durations(&self->timed);
    forget_durations(&self->http_timed);
    PyMem_Free(self->input);
    PyMem_Free(self->output.bytes);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef pump_methods[] = {
    {"add", (PyCFunction)pump_add, METH_VARARGS, NULL},
    {"run", (PyCFunction)pump_run, METH_O, NULL},
    {"take_durations", (PyCFunction)pump_take_durations, METH_VARARGS, NULL},
    {NULL},
};

static PyMemberDef pump_members[] = {
    {"slow_seconds", T_DOUBLE, offsetof(Pump, slow_seconds), 0, NULL},
    {NULL},
};

PyTypeObject PumpType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.Pump",
    .tp_doc = "Reads and writes many sockets.",
    .tp_basicsize = sizeof(Pump),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = pump_new,
    .tp_dealloc = (destructor)pump_dealloc,
    .tp_traverse = (traverseproc)pump_traverse,
    .tp_clear = (inquiry)pump_clear,
    .tp_methods = pump_methods,
    .tp_members = pump_members,
};
