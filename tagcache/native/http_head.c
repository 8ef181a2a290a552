/* HttpHeads: the requests that repeat a head which Python has parsed and accepted.
 *
 * Python says which heads are plain, and for how long. Such a request is read here only if each of
 * its bytes is that of the head, except for the key of a look-up, or the length of a body. So
 * nothing is decided about headers here. */

#include "http.h"

/* No body with more digits in its length is read here. */
#define MOST_DIGITS 6

static bool
is_valid(const Head *head, double now)
{
    return head->before != NULL && PyList_GET_SIZE(head->revoked) == 0 && now < head->until;
}

/* Move past the bytes; false if they are others. */
static bool
take(Part *input, PyObject *expected)
{
    size_t length = (size_t)PyBytes_GET_SIZE(expected);
    if (input->length < length || memcmp(input->start, PyBytes_AS_STRING(expected), length) != 0) {
        return false;
    }
    input->start += length;
    input->length -= length;
    return true;
}

/* Whether a byte of a path stands for itself, and in a key. */
static bool
is_key_byte(char byte)
{
    return byte > ' ' && byte < 0x7f && byte != '/' && byte != '?' && byte != '%';
}

static bool
take_key(Part *input, Part *key)
{
    size_t at = 0;
    while (at < input->length && at < LONGEST_KEY && is_key_byte(input->start[at])) {
        at++;
    }
    *key = (Part){input->start, at};
    input->start += at;
    input->length -= at;
    return at > 0;
}

/* Take a length without leading zeros. */
static bool
take_length(Part *input, size_t *length)
{
    size_t at = 0;
    *length = 0;
    while (at < input->length && at < MOST_DIGITS && input->start[at] >= '0' &&
           input->start[at] <= '9') {
        *length = *length * 10 + (size_t)(input->start[at++] - '0');
    }
    bool is_plain = at > 0 && input->start[0] != '0';
    input->start += at;
    input->length -= at;
    return is_plain;
}

static bool
take_store(const Head *head, Part *input, Request *request)
{
    size_t length;
    if (!take(input, head->before) || !take_length(input, &length) || !take(input, head->after) ||
        length > input->length || length > head->most_body) {
        return false;
    }
    bool is_plain = read_entry((Part){input->start, length}, request);
    input->start += length;
    return is_plain;
}

Request
read_http(const HttpHeads *heads, const char *input, size_t length, double now)
{
    Request request = {.verb = LOOK_UP};
    Part rest = {input, length};
    bool is_plain = false;
    if (length > 0 && input[0] == 'G' && is_valid(&heads->look_up, now)) {
        is_plain = take(&rest, heads->look_up.before) && take_key(&rest, &request.key) &&
                   take(&rest, heads->look_up.after);
    } else if (length > 0 && is_valid(&heads->store, now)) {
        request.verb = STORE;
        is_plain = take_store(&heads->store, &rest, &request);
    }
    request.length = is_plain ? (size_t)(rest.start - input) : 0;
    return request;
}

bool
is_accepted(const HttpHeads *heads, enum verb verb, double now)
{
    return is_valid(verb == LOOK_UP ? &heads->look_up : &heads->store, now);
}

/* The type */

static void
forget_head(Head *head)
{
    Py_CLEAR(head->before);
    Py_CLEAR(head->after);
    Py_CLEAR(head->revoked);
}

static PyObject *
use_head(Head *head, PyObject *arguments)
{
    PyObject *before, *after, *revoked;
    double until;
    Py_ssize_t most_body = 0;
    if (!PyArg_ParseTuple(arguments, "SSO!d|n", &before, &after, &PyList_Type, &revoked, &until,
                          &most_body)) {
        return NULL;
    }
    forget_head(head);
    *head = (Head){Py_NewRef(before), Py_NewRef(after), Py_NewRef(revoked), until,
                   most_body > 0 ? (size_t)most_body : 0};
    Py_RETURN_NONE;
}

/* use_look_up(before the key, after it, revoked, until) */
static PyObject *
heads_use_look_up(HttpHeads *self, PyObject *arguments)
{
    return use_head(&self->look_up, arguments);
}

/* use_store(before the length, after it, revoked, until, bytes of the longest body) */
static PyObject *
heads_use_store(HttpHeads *self, PyObject *arguments)
{
    return use_head(&self->store, arguments);
}

static PyObject *
heads_forget(HttpHeads *self, PyObject *Py_UNUSED(none))
{
    forget_head(&self->look_up);
    forget_head(&self->store);
    Py_RETURN_NONE;
}

static void
heads_dealloc(HttpHeads *self)
{
    forget_head(&self->look_up);
    forget_head(&self->store);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef heads_methods[] = {
    {"use_look_up", (PyCFunction)heads_use_look_up, METH_VARARGS, NULL},
    {"use_store", (PyCFunction)heads_use_store, METH_VARARGS, NULL},
    {"forget", (PyCFunction)heads_forget, METH_NOARGS, NULL},
    {NULL},
};

/* It has no header of the garbage collector: its lists are empty, or hold None. */
PyTypeObject HttpHeadsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.HttpHeads",
    .tp_doc = "The heads of HTTP requests that may come again on one connection.",
    .tp_basicsize = sizeof(HttpHeads),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)heads_dealloc,
    .tp_methods = heads_methods,
};
