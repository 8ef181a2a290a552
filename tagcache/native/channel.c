/* Channel: the reads and writes of one socket, for a pump.
 *
 * It moves bytes, and answers plain requests on the way. The owner does the rest of a transport's
 * work, such as an orderly close: tagcache/server/net/pump_transport.py. */

#include "channel.h"

#include <errno.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Tell epoll what to wait for. Errors and the end of both directions are reported in any case. */
void
channel_watch(Channel *self)
{
    if (self->pump == NULL) {
        return;
    }
    size_t unsent = self->unsent_end - self->unsent_start;
    bool writes = unsent > 0 || self->tells_drained || self->error != 0;
    uint32_t wanted = (self->reads ? EPOLLIN : 0u) | (writes ? EPOLLOUT : 0u);
    if (self->is_registered && wanted == self->watched) {
        return;
    }
    struct epoll_event event = {.events = wanted, .data.ptr = self};
    int operation = self->is_registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(self->pump->epoll, operation, self->socket, &event) == 0) {
        self->is_registered = true;
        self->watched = wanted;
    }
}

void
channel_fail(Channel *self, int error)
{
    if (self->pump == NULL) {
        /* It is closed, and its descriptor may already belong to another file. */
        return;
    }
    self->error = error;
    /* Otherwise no more events might come, and the owner would never be told. */
    shutdown(self->socket, SHUT_RDWR);
    channel_watch(self);
}

void
channel_forget(Channel *self)
{
    if (self->is_registered) {
        struct epoll_event none = {0};
        epoll_ctl(self->pump->epoll, EPOLL_CTL_DEL, self->socket, &none);
        self->is_registered = false;
    }
}

void
channel_tell(Channel *self, const char *method, int error)
{
    if (self->owner == NULL) {
        return;
    }
    PyObject *owner = Py_NewRef(self->owner);
    self->pump->python_ran = true;
    PyObject *result = error < 0 ? PyObject_CallMethod(owner, method, NULL)
                                 : PyObject_CallMethod(owner, method, "i", error);
    if (result == NULL) {
        PyErr_WriteUnraisable(owner);
        channel_fail(self, EIO);
    }
    Py_XDECREF(result);
    Py_DECREF(owner);
}

/* Keep what could not be sent. -1 with an exception. */
static int
keep(Channel *self, const char *bytes, size_t length)
{
    size_t unsent = self->unsent_end - self->unsent_start;
    if (self->unsent_end + length > self->unsent_capacity) {
        if (unsent + length > self->unsent_capacity) {
            size_t capacity = (unsent + length) * 2;
            char *larger = PyMem_Malloc(capacity);
            if (larger == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            if (unsent > 0) {
                memcpy(larger, self->unsent + self->unsent_start, unsent);
            }
            PyMem_Free(self->unsent);
            self->unsent = larger;
            self->unsent_capacity = capacity;
        } else {
            memmove(self->unsent, self->unsent + self->unsent_start, unsent);
        }
        self->unsent_start = 0;
        self->unsent_end = unsent;
    }
    memcpy(self->unsent + self->unsent_end, bytes, length);
    self->unsent_end += length;
    channel_watch(self);
    return 0;
}

static void
drop_unsent(Channel *self)
{
    PyMem_Free(self->unsent);
    self->unsent = NULL;
    self->unsent_start = self->unsent_end = self->unsent_capacity = 0;
}

/* Send at once as much as the kernel accepts, and keep the rest. -1 with an exception. */
int
channel_send(Channel *self, const char *bytes, size_t length)
{
    if (self->error != 0) {
        return 0;
    }
    size_t sent = 0;
    if (self->unsent_end == self->unsent_start) {
        ssize_t result = send(self->socket, bytes, length, MSG_NOSIGNAL);
        if (result < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            channel_fail(self, errno);
            return 0;
        }
        sent = result < 0 ? 0 : (size_t)result;
    }
    if (sent == length) {
        return 0;
    }
    if (keep(self, bytes + sent, length - sent) < 0) {
        return -1;
    }
    if (self->unsent_end - self->unsent_start > HIGH_WATER) {
        channel_tell(self, "full", -1);
    }
    return 0;
}

void
channel_send_unsent(Channel *self)
{
    size_t unsent = self->unsent_end - self->unsent_start;
    if (unsent > 0) {
        ssize_t sent = send(self->socket, self->unsent + self->unsent_start, unsent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
                self->error = errno;
            }
            return;
        }
        self->unsent_start += (size_t)sent;
        if ((size_t)sent < unsent) {
            return;
        }
        drop_unsent(self);
        self->tells_drained = true;
    }
    if (self->tells_drained) {
        self->tells_drained = false;
        channel_watch(self);
        channel_tell(self, "drained", -1);
    }
}

/* Methods */

static PyObject *
channel_write(Channel *self, PyObject *data)
{
    if (!PyBytes_Check(data)) {
        return PyErr_Format(PyExc_TypeError, "data must be bytes, not %.80s", Py_TYPE(data)->tp_name);
    }
    if (self->pump != NULL && PyBytes_GET_SIZE(data) > 0 &&
        channel_send(self, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
channel_pause(Channel *self, PyObject *Py_UNUSED(none))
{
    self->reads = false;
    channel_watch(self);
    Py_RETURN_NONE;
}

static PyObject *
channel_resume(Channel *self, PyObject *Py_UNUSED(none))
{
    self->reads = true;
    channel_watch(self);
    Py_RETURN_NONE;
}

static PyObject *
channel_tell_drained(Channel *self, PyObject *Py_UNUSED(none))
{
    self->tells_drained = true;
    channel_watch(self);
    Py_RETURN_NONE;
}

static PyObject *
channel_answer(Channel *self, PyObject *arguments)
{
    PyObject *plain, *read_options, *read_tag_options;
    PyObject *verbs = NULL, *heads = NULL;
    int dialect;
    if (!PyArg_ParseTuple(arguments, "O!iOO|O!O!", &PlainType, &plain, &dialect, &read_options,
                          &read_tag_options, &PyTuple_Type, &verbs, &HttpHeadsType, &heads)) {
        return NULL;
    }
    if (dialect < LINE || dialect > HTTP || (dialect == HTTP) != (heads != NULL)) {
        PyErr_SetString(PyExc_ValueError, "there is no such dialect");
        return NULL;
    }
    Py_XSETREF(self->plain, (PlainRequests *)Py_NewRef(plain));
    self->answers.dialect = (enum dialect)dialect;
    Py_XSETREF(self->answers.read_options, Py_NewRef(read_options));
    Py_XSETREF(self->answers.read_tag_options, Py_NewRef(read_tag_options));
    Py_XSETREF(self->answers.verbs, Py_XNewRef(verbs));
    Py_XSETREF(self->answers.heads, (HttpHeads *)Py_XNewRef(heads));
    Py_RETURN_NONE;
}

static PyObject *
channel_answer_nothing(Channel *self, PyObject *Py_UNUSED(none))
{
    Py_CLEAR(self->plain);
    Py_RETURN_NONE;
}

static PyObject *
channel_take_counts(Channel *self, PyObject *Py_UNUSED(none))
{
    PyObject *counts = Py_BuildValue("NiLLd", tuple_of_counts(self->counts), (int)self->last_verb,
                                     self->bytes_in, self->bytes_out, self->last_active);
    if (counts != NULL) {
        memset(self->counts, 0, sizeof(self->counts));
        self->bytes_in = self->bytes_out = 0;
    }
    return counts;
}

static PyObject *
channel_get_unsent(Channel *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->unsent_end - self->unsent_start);
}

static void
drop_callables(Channel *self)
{
    Py_CLEAR(self->owner);
    Py_CLEAR(self->received);
    Py_CLEAR(self->plain);
    Py_CLEAR(self->answers.read_options);
    Py_CLEAR(self->answers.read_tag_options);
    Py_CLEAR(self->answers.verbs);
    Py_CLEAR(self->answers.heads);
}

static PyObject *
channel_close(Channel *self, PyObject *Py_UNUSED(none))
{
    if (self->pump == NULL) {
        Py_RETURN_NONE;
    }
    channel_forget(self);
    drop_unsent(self);
    Pump *pump = self->pump;
    self->pump = NULL;
    drop_callables(self);
    int discarded = PySet_Discard(pump->channels, (PyObject *)self);
    Py_DECREF(pump);
    if (discarded < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
channel_traverse(Channel *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pump);
    Py_VISIT(self->owner);
    Py_VISIT(self->received);
    Py_VISIT(self->plain);
    Py_VISIT(self->answers.read_options);
    Py_VISIT(self->answers.read_tag_options);
    Py_VISIT(self->answers.verbs);
    return 0;
}

static int
channel_clear(Channel *self)
{
    if (self->pump != NULL) {
        channel_forget(self);
    }
    Py_CLEAR(self->pump);
    drop_callables(self);
    return 0;
}

static void
channel_dealloc(Channel *self)
{
    PyObject_GC_UnTrack(self);
    channel_clear(self);
    drop_unsent(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef channel_methods[] = {
    {"write", (PyCFunction)channel_write, METH_O, NULL},
    {"pause", (PyCFunction)channel_pause, METH_NOARGS, NULL},
    {"resume", (PyCFunction)channel_resume, METH_NOARGS, NULL},
    {"tell_drained", (PyCFunction)channel_tell_drained, METH_NOARGS, NULL},
    {"answer", (PyCFunction)channel_answer, METH_VARARGS, NULL},
    {"answer_nothing", (PyCFunction)channel_answer_nothing, METH_NOARGS, NULL},
    {"take_counts", (PyCFunction)channel_take_counts, METH_NOARGS, NULL},
    {"close", (PyCFunction)channel_close, METH_NOARGS, NULL},
    {NULL},
};

static PyGetSetDef channel_attributes[] = {
    {"unsent", (getter)channel_get_unsent, NULL, NULL, NULL},
    {NULL},
};

PyTypeObject ChannelType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.Channel",
    .tp_doc = "One socket of a pump.",
    .tp_basicsize = sizeof(Channel),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)channel_dealloc,
    .tp_traverse = (traverseproc)channel_traverse,
    .tp_clear = (inquiry)channel_clear,
    .tp_methods = channel_methods,
    .tp_getset = channel_attributes,
};
