/* PlainRequests: plain look-ups and stores, from the bytes of the request to the bytes of the reply.
 *
 * Everything unusual ends it, and is left to Python with all that follows: other requests, keys that
 * were invalidated a while ago, expired entries, values that a line cannot hold, stores that the cache
 * refuses. So it decides nothing that Python does not decide, and keeps no state of a connection. To
 * store, it calls the cache: what that is, stands in Python only. */

#include "request.h"

#include <structmember.h>

/* What says how to store is remembered up to this length. */
#define LONGEST_OPTIONS 256
/* The decimal digits of the length of a value, and what surrounds it. */
#define FRAME_BYTES 32

static void
append(Output *output, const char *bytes, size_t length)
{
    memcpy(output->bytes + output->length, bytes, length);
    output->length += length;
}

/* In decimal; printf takes longer than the rest of a look-up. */
static void
append_number(Output *output, size_t number)
{
    char digits[20];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    append(output, digits + first, sizeof(digits) - first);
}

static void
write_missing(Output *output, enum dialect dialect)
{
    switch (dialect) {
    case LINE:
        append(output, "NF\n", 3);
        break;
    case RESP2:
        append(output, "$-1\r\n", 5);
        break;
    case RESP3:
        append(output, "_\r\n", 3);
        break;
    }
}

/* Whether there was room, and a line can hold the value. */
static bool
write_value(Output *output, enum dialect dialect, const char *value, size_t length)
{
    if (output->capacity - output->length < length + FRAME_BYTES) {
        return false;
    }
    if (dialect == LINE) {
        if (memchr(value, '\n', length) != NULL) {
            return false;
        }
        append(output, "VALUE\t", 6);
        append(output, value, length);
        append(output, "\n", 1);
    } else {
        append(output, "$", 1);
        append_number(output, length);
        append(output, "\r\n", 2);
        append(output, value, length);
        append(output, "\r\n", 2);
    }
    return true;
}

enum found { ANSWERED, FOR_PYTHON, FAILED };

/* What look-ups have found; it is counted once all keys of a request are answered. */
typedef struct {
    long long hits, misses;
    Entry *last_hit;
} Tally;

static enum found
count_look_ups(PlainRequests *self, const Tally *tally)
{
    self->hits += tally->hits;
    self->misses += tally->misses;
    self->until_sample -= tally->hits;
    if (self->until_sample > 0 || tally->last_hit == NULL) {
        return ANSWERED;
    }
    PyObject *next = PyObject_CallOneArg(self->on_sample, (PyObject *)tally->last_hit);
    if (next == NULL) {
        return FAILED;
    }
    self->until_sample = PyLong_AsLongLong(next);
    Py_DECREF(next);
    return PyErr_Occurred() ? FAILED : ANSWERED;
}

/* Look a key up, without a count. It borrows entries, which nothing removes meanwhile. */
static enum found
find_value(PlainRequests *self, enum dialect dialect, PyObject *key, double now, Output *output,
           Tally *tally)
{
    Py_hash_t hash = PyObject_Hash(key);
    Py_ssize_t shard = hash & (PyList_GET_SIZE(self->shards) - 1);
    Entries *table = (Entries *)PyList_GET_ITEM(self->shards, shard);
    if (Py_TYPE(table) != &EntriesType || output->capacity - output->length < FRAME_BYTES) {
        return FOR_PYTHON;
    }
    Entry *entry = find_entry(table, key, hash);
    if (entry == NULL) {
        if (PyDict_GetItemWithError(self->removed, key) != NULL) {
            return FOR_PYTHON;
        }
        if (PyErr_Occurred()) {
            return FAILED;
        }
        write_missing(output, dialect);
        tally->misses++;
        return ANSWERED;
    }
    if (entry->stored + entry->ttl <= now ||
        !write_value(output, dialect, PyBytes_AS_STRING(entry->value),
                     (size_t)PyBytes_GET_SIZE(entry->value))) {
        return FOR_PYTHON;
    }
    entry->visited = 1;
    tally->hits++;
    tally->last_hit = entry;
    return ANSWERED;
}

static enum found
find_part(PlainRequests *self, enum dialect dialect, Part part, double now, Output *output,
          Tally *tally)
{
    if (part.length > LONGEST_KEY) {
        return FOR_PYTHON;
    }
    PyObject *key = PyBytes_FromStringAndSize(part.start, (Py_ssize_t)part.length);
    if (key == NULL) {
        return FAILED;
    }
    enum found found = find_value(self, dialect, key, now, output, tally);
    Py_DECREF(key);
    return found;
}

static enum found
look_up(PlainRequests *self, enum dialect dialect, const Request *request, double now,
        Output *output)
{
    Tally tally = {0};
    enum found found = find_part(self, dialect, request->key, now, output, &tally);
    return found == ANSWERED ? count_look_ups(self, &tally) : found;
}

/* Either all keys are answered, or the whole request is for Python. */
static enum found
look_up_many(PlainRequests *self, enum dialect dialect, const Request *request, double now,
             Output *output)
{
    Tally tally = {0};
    size_t start = output->length, at = 0;
    Part key;
    if (output->capacity - output->length < FRAME_BYTES) {
        return FOR_PYTHON;
    }
    append(output, "*", 1);
    append_number(output, request->key_count);
    append(output, "\r\n", 2);
    while (take_bulk(request->keys.start, request->keys.length, &at, &key)) {
        enum found found = find_part(self, dialect, key, now, output, &tally);
        if (found != ANSWERED) {
            output->length = start;
            return found;
        }
    }
    return count_look_ups(self, &tally);
}

/* Call the cache. If it raises, it has changed nothing, and Python finds the same again. */
static enum found
store(PlainRequests *self, const Answers *answers, const Request *request, Output *output)
{
    if (request->key.length > LONGEST_KEY || request->options.length > LONGEST_OPTIONS ||
        output->capacity - output->length < FRAME_BYTES) {
        return FOR_PYTHON;
    }
    PyObject *result = NULL;
    PyObject *key = PyBytes_FromStringAndSize(request->key.start,
                                              (Py_ssize_t)request->key.length);
    PyObject *options = PyBytes_FromStringAndSize(request->options.start,
                                                  (Py_ssize_t)request->options.length);
    PyObject *value = PyBytes_FromStringAndSize(request->value.start,
                                                (Py_ssize_t)request->value.length);
    PyObject *reader = request->verb == STORE ? answers->read_options : answers->read_tag_options;
    PyObject *how = options == NULL ? NULL : PyObject_CallOneArg(reader, options);
    bool is_plain = how != NULL && how != Py_None && key != NULL && value != NULL;
    if (is_plain) {
        PyObject *arguments[] = {key, value, how};
        result = PyObject_Vectorcall(self->put, arguments, 3, NULL);
    }
    PyErr_Clear();
    Py_XDECREF(how);
    Py_XDECREF(options);
    Py_XDECREF(key);
    Py_XDECREF(value);
    if (result == NULL) {
        return FOR_PYTHON;
    }
    Py_DECREF(result);
    if (answers->dialect == LINE) {
        append(output, "OK\n", 3);
    } else {
        append(output, "+OK\r\n", 5);
    }
    return ANSWERED;
}

static enum found
answer_one(PlainRequests *self, const Answers *answers, const Request *request, double now,
           Output *output)
{
    switch (request->verb) {
    case LOOK_UP:
        return look_up(self, answers->dialect, request, now, output);
    case LOOK_UP_MANY:
        return look_up_many(self, answers->dialect, request, now, output);
    default:
        return store(self, answers, request, output);
    }
}

Py_ssize_t
plain_answer(PlainRequests *self, const Answers *answers, const char *input, size_t length,
             double now, Output *output, long long counts[VERBS])
{
    size_t done = 0;
    while (done < length && PyList_GET_SIZE(self->dead) == 0) {
        Request request = answers->dialect == LINE ? read_line(input + done, length - done)
                                                   : read_resp(input + done, length - done);
        if (request.length == 0) {
            break;
        }
        enum found found = answer_one(self, answers, &request, now, output);
        if (found == FAILED) {
            return -1;
        }
        if (found == FOR_PYTHON) {
            break;
        }
        done += request.length;
        counts[request.verb]++;
    }
    return (Py_ssize_t)done;
}

/* The type */

static PyObject *
plain_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    PyObject *shards, *dead, *removed, *on_sample, *put;
    if (!PyArg_ParseTuple(arguments, "O!O!O!OO", &PyList_Type, &shards, &PyList_Type, &dead,
                          &PyDict_Type, &removed, &on_sample, &put)) {
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(shards);
    if (count == 0 || (count & (count - 1)) != 0) {
        PyErr_SetString(PyExc_ValueError, "the number of shards is not a power of two");
        return NULL;
    }
    PlainRequests *self = (PlainRequests *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->shards = Py_NewRef(shards);
    self->dead = Py_NewRef(dead);
    self->removed = Py_NewRef(removed);
    self->on_sample = Py_NewRef(on_sample);
    self->put = Py_NewRef(put);
    return (PyObject *)self;
}

static int
plain_traverse(PlainRequests *self, visitproc visit, void *arg)
{
    Py_VISIT(self->shards);
    Py_VISIT(self->dead);
    Py_VISIT(self->removed);
    Py_VISIT(self->on_sample);
    Py_VISIT(self->put);
    return 0;
}

static int
plain_clear(PlainRequests *self)
{
    Py_CLEAR(self->shards);
    Py_CLEAR(self->dead);
    Py_CLEAR(self->removed);
    Py_CLEAR(self->on_sample);
    Py_CLEAR(self->put);
    return 0;
}

static void
plain_dealloc(PlainRequests *self)
{
    PyObject_GC_UnTrack(self);
    plain_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Return (bytes answered, requests of each verb, replies), for tests. */
static PyObject *
plain_answer_method(PlainRequests *self, PyObject *arguments)
{
    Answers answers = {0};
    int dialect;
    Py_buffer input;
    double now;
    Py_ssize_t capacity;
    if (!PyArg_ParseTuple(arguments, "iOOy*dn", &dialect, &answers.read_options,
                          &answers.read_tag_options, &input, &now, &capacity)) {
        return NULL;
    }
    answers.dialect = (enum dialect)dialect;
    Output output = {PyMem_Malloc((size_t)capacity + 1), 0, (size_t)capacity};
    PyObject *result = NULL;
    if (output.bytes == NULL) {
        PyErr_NoMemory();
    } else {
        long long counts[VERBS] = {0};
        Py_ssize_t done = plain_answer(self, &answers, input.buf, (size_t)input.len, now, &output,
                                       counts);
        if (done >= 0) {
            result = Py_BuildValue("n(LLLL)y#", done, counts[LOOK_UP], counts[STORE],
                                   counts[TAG_STORE], counts[LOOK_UP_MANY], output.bytes,
                                   (Py_ssize_t)output.length);
        }
    }
    PyMem_Free(output.bytes);
    PyBuffer_Release(&input);
    return result;
}

static PyMethodDef plain_methods[] = {
    {"answer", (PyCFunction)plain_answer_method, METH_VARARGS, NULL},
    {NULL},
};

static PyMemberDef plain_members[] = {
    {"hits", T_LONGLONG, offsetof(PlainRequests, hits), 0, NULL},
    {"misses", T_LONGLONG, offsetof(PlainRequests, misses), 0, NULL},
    {"until_sample", T_LONGLONG, offsetof(PlainRequests, until_sample), 0, NULL},
    {NULL},
};

PyTypeObject PlainType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.PlainRequests",
    .tp_doc = "Plain requests for one cache.",
    .tp_basicsize = sizeof(PlainRequests),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = plain_new,
    .tp_dealloc = (destructor)plain_dealloc,
    .tp_traverse = (traverseproc)plain_traverse,
    .tp_clear = (inquiry)plain_clear,
    .tp_methods = plain_methods,
    .tp_members = plain_members,
};
