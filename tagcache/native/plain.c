/* PlainRequests: plain look-ups and stores, from the bytes of the request to the bytes of the reply.
 *
 * At the first unusual request it stops, and leaves that and all that follows to Python: other
 * requests, keys that were invalidated earlier, expired entries, values that a line cannot contain,
 * stores that the cache refuses. So it makes no decisions of its own, and keeps no state of a
 * connection. */

#include "plain.h"

#include <structmember.h>

/* Longer values are not prefetched as a whole: the processor does that well by itself. */
#define PREFETCHED_BYTES 64

bool
make_key(Part part, Key *key)
{
    key->bytes = part.length > LONGEST_KEY
                     ? NULL
                     : PyBytes_FromStringAndSize(part.start, (Py_ssize_t)part.length);
    PyErr_Clear();
    key->hash = key->bytes == NULL ? 0 : PyObject_Hash(key->bytes);
    return key->bytes != NULL;
}

Entries *
table_of(const PlainRequests *self, Py_hash_t hash)
{
    Py_ssize_t shard = hash & (PyList_GET_SIZE(self->shards) - 1);
    PyObject *table = PyList_GET_ITEM(self->shards, shard);
    return Py_TYPE(table) == &EntriesType ? (Entries *)table : NULL;
}

bool
may_be_dead(const PlainRequests *self, const Key *key, const Entry *entry)
{
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(self->dead); at++) {
        const Entries *table = table_among(PyList_GET_ITEM(self->dead, at), entry);
        if (table == NULL || find_entry(table, key->bytes, key->hash) == entry) {
            return true;
        }
    }
    return false;
}

Entry *
find_live(const PlainRequests *self, const Key *key, double now)
{
    const Entries *table = table_of(self, key->hash);
    Entry *entry = table == NULL ? NULL : find_entry(table, key->bytes, key->hash);
    bool is_live = entry != NULL && entry->stored + entry->ttl > now &&
                   !may_be_dead(self, key, entry);
    return is_live ? entry : NULL;
}

/* A look-up waits three times for memory: for the slot, the entry, and its value. With several keys
 * the waits of all overlap. */
void
prefetch(const Sought sought[], size_t count)
{
    const Entry *likely[KEYS_AT_ONCE];
    if (count < 2) {
        return;
    }
    for (size_t at = 0; at < count; at++) {
        if (sought[at].table != NULL) {
            prefetch_slot(sought[at].table, sought[at].hash);
        }
    }
    for (size_t at = 0; at < count; at++) {
        likely[at] = sought[at].table == NULL ? NULL
                                              : likely_entry(sought[at].table, sought[at].hash);
        if (likely[at] != NULL) {
            __builtin_prefetch(likely[at]);
            __builtin_prefetch(&likely[at]->key);
        }
    }
    for (size_t at = 0; at < count; at++) {
        if (likely[at] != NULL) {
            __builtin_prefetch(likely[at]->value);
            __builtin_prefetch(PyBytes_AS_STRING(likely[at]->value) + PREFETCHED_BYTES);
        }
        if (likely[at] != NULL && sought[at].is_store) {
            __builtin_prefetch(likely[at]->links.older);
            __builtin_prefetch(likely[at]->links.newer);
        }
    }
}

void
prefetch_keys(const PlainRequests *self, const Key keys[], size_t count)
{
    Sought sought[KEYS_AT_ONCE];
    for (size_t at = 0; at < count; at++) {
        sought[at] = (Sought){table_of(self, keys[at].hash), keys[at].hash, false};
    }
    prefetch(sought, count);
}

bool
read_ahead(const Answers *answers, const char *input, size_t length, double now, Ahead *ahead)
{
    ahead->request = answers->dialect == HTTP   ? read_http(answers->heads, input, length, now)
                     : answers->dialect == LINE ? read_line(input, length)
                                                : read_resp(input, length);
    ahead->key.bytes = NULL;
    return ahead->request.length > 0 && make_key(ahead->request.key, &ahead->key);
}

/* Read the next few plain requests. */
static size_t
read_batch(const Answers *answers, const char *input, size_t length, double now,
           const Ahead *first, Ahead *batch)
{
    size_t done = 0, count = 0;
    if (first != NULL && first->key.bytes != NULL) {
        batch[0] = *first;
        Py_INCREF(first->key.bytes);
        done = first->request.length;
        count = 1;
    }
    while (done < length && count < KEYS_AT_ONCE &&
           read_ahead(answers, input + done, length - done, now, &batch[count])) {
        done += batch[count++].request.length;
    }
    return count;
}

static enum found
answer_one(PlainRequests *self, const Answers *answers, const Request *request, const Key *key,
           double now, Output *output)
{
    switch (request->verb) {
    case LOOK_UP:
        return look_up(self, answers->dialect, key, now, output);
    case LOOK_UP_MANY:
        return look_up_many(self, answers->dialect, request, now, output);
    case FETCH:
        return answer_fetch(self, answers->dialect, key, now, output);
    case INCR:
    case DECR:
    case INCRBY:
    case DECRBY:
        return answer_count(self, answers->dialect, request, key, now, output);
    case DELETE:
        return answer_delete(self, answers->dialect, key, output);
    case TOUCH:
    case EXPIRE:
    case PEXPIRE:
    case TTL_LEFT:
    case PTTL_LEFT:
    case EXISTS:
        return answer_lifetime(self, answers->dialect, request, key, now, output);
    default:
        return answer_store(self, answers, request, key, now, output);
    }
}

/* Prefetch what the requests of a batch will read, but the first one if that was done already. */
static void
prefetch_batch(const PlainRequests *self, const Ahead *batch, size_t count, bool but_first)
{
    Sought sought[KEYS_AT_ONCE];
    size_t first = but_first ? 1 : 0;
    for (size_t at = first; at < count; at++) {
        Py_hash_t hash = batch[at].key.hash;
        sought[at - first] = (Sought){table_of(self, hash), hash, is_store(batch[at].request.verb)};
    }
    prefetch(sought, count - first);
}

Py_ssize_t
plain_answer(PlainRequests *self, const Answers *answers, const char *input, size_t length,
             const Ahead *ahead, double now, Output *output, long long counts[VERBS])
{
    size_t done = 0;
    enum found found = ANSWERED;
    while (done < length && found == ANSWERED) {
        Ahead batch[KEYS_AT_ONCE];
        size_t count = read_batch(answers, input + done, length - done, now, ahead, batch);
        prefetch_batch(self, batch, count, ahead != NULL && count > 0);
        ahead = NULL;
        for (size_t at = 0; at < count; at++) {
            const Request *request = &batch[at].request;
            if (found == ANSWERED) {
                found = answer_one(self, answers, request, &batch[at].key, now, output);
            }
            if (found == ANSWERED) {
                done += request->length;
                counts[request->verb]++;
            }
            Py_DECREF(batch[at].key.bytes);
        }
        if (count < KEYS_AT_ONCE) {
            break;
        }
    }
    return found == FAILED ? -1 : (Py_ssize_t)done;
}

PyObject *
tuple_of_counts(const long long counts[VERBS])
{
    PyObject *tuple = PyTuple_New(VERBS);
    for (int verb = 0; tuple != NULL && verb < VERBS; verb++) {
        PyObject *count = PyLong_FromLongLong(counts[verb]);
        if (count == NULL) {
            Py_CLEAR(tuple);
        } else {
            PyTuple_SET_ITEM(tuple, verb, count);
        }
    }
    return tuple;
}

/* The type */

static PyObject *
plain_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    PyObject *store, *shards, *dead, *removed, *on_sample, *put, *delete, *headroom, *uses;
    if (!PyArg_ParseTuple(arguments, "O!O!O!O!OOOOO", &StoreFieldsType, &store,
                          &PyList_Type, &shards, &PyList_Type,
                          &dead, &PyDict_Type, &removed, &uses, &on_sample, &put, &delete,
                          &headroom)) {
        return NULL;
    }
    if (uses != Py_None && Py_TYPE(uses) != &UsedEntryType) {
        return PyErr_Format(PyExc_TypeError, "not the end of an order of use: %R", uses);
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
    self->known = PyMem_Calloc(KNOWN, sizeof(How));
    if (self->known == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->store = (StoreFields *)Py_NewRef(store);
    self->shards = Py_NewRef(shards);
    self->dead = Py_NewRef(dead);
    self->removed = Py_NewRef(removed);
    self->uses = uses == Py_None ? NULL : (Entry *)Py_NewRef(uses);
    self->on_sample = Py_NewRef(on_sample);
    self->put = Py_NewRef(put);
    self->delete = Py_NewRef(delete);
    self->headroom = Py_NewRef(headroom);
    return (PyObject *)self;
}

static int
plain_traverse(PlainRequests *self, visitproc visit, void *arg)
{
    Py_VISIT(self->store);
    Py_VISIT(self->limits);
    Py_VISIT(self->shards);
    Py_VISIT(self->dead);
    Py_VISIT(self->removed);
    Py_VISIT(self->uses);
    Py_VISIT(self->on_sample);
    Py_VISIT(self->put);
    Py_VISIT(self->delete);
    Py_VISIT(self->headroom);
    return 0;
}

static int
plain_clear(PlainRequests *self)
{
    forget_all(self);
    Py_CLEAR(self->store);
    Py_CLEAR(self->limits);
    Py_CLEAR(self->shards);
    Py_CLEAR(self->dead);
    Py_CLEAR(self->removed);
    Py_CLEAR(self->uses);
    Py_CLEAR(self->on_sample);
    Py_CLEAR(self->put);
    Py_CLEAR(self->delete);
    Py_CLEAR(self->headroom);
    return 0;
}

static void
plain_dealloc(PlainRequests *self)
{
    PyObject_GC_UnTrack(self);
    plain_clear(self);
    PyMem_Free(self->known);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* use_limits(limits, longest key, longest value to store and to keep, most tags, longest tag,
 * max_memory, has tag rules) */
static PyObject *
plain_use_limits(PlainRequests *self, PyObject *arguments)
{
    PyObject *limits;
    Py_ssize_t longest_key, longest_value, longest_kept_value, most_tags, longest_tag;
    long long max_memory;
    int has_tag_rules;
    if (!PyArg_ParseTuple(arguments, "OnnnnnLp", &limits, &longest_key, &longest_value,
                          &longest_kept_value, &most_tags, &longest_tag, &max_memory,
                          &has_tag_rules)) {
        return NULL;
    }
    forget_all(self);
    Py_XSETREF(self->limits, Py_NewRef(limits));
    self->longest_key = longest_key;
    self->longest_value = longest_value;
    self->longest_kept_value = longest_kept_value;
    self->most_tags = most_tags;
    self->longest_tag = longest_tag;
    self->has_tag_rules = has_tag_rules;
    self->max_memory = max_memory;
    Py_RETURN_NONE;
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
    if (!PyArg_ParseTuple(arguments, "iOOy*dn|O!", &dialect, &answers.read_options,
                          &answers.read_tag_options, &input, &now, &capacity, &HttpHeadsType,
                          &answers.heads)) {
        return NULL;
    }
    if ((dialect == HTTP) != (answers.heads != NULL)) {
        PyBuffer_Release(&input);
        PyErr_SetString(PyExc_ValueError, "only HTTP has heads");
        return NULL;
    }
    answers.dialect = (enum dialect)dialect;
    Output output = {PyMem_Malloc((size_t)capacity + 1), 0, (size_t)capacity};
    PyObject *result = NULL;
    if (output.bytes == NULL) {
        PyErr_NoMemory();
    } else {
        long long counts[VERBS] = {0};
        Py_ssize_t done = plain_answer(self, &answers, input.buf, (size_t)input.len, NULL, now,
                                       &output, counts);
        if (done >= 0) {
            result = Py_BuildValue("nNy#", done, tuple_of_counts(counts), output.bytes,
                                   (Py_ssize_t)output.length);
        }
    }
    PyMem_Free(output.bytes);
    PyBuffer_Release(&input);
    return result;
}

static PyMethodDef plain_methods[] = {
    {"answer", (PyCFunction)plain_answer_method, METH_VARARGS, NULL},
    {"use_limits", (PyCFunction)plain_use_limits, METH_VARARGS, NULL},
    {NULL},
};

static PyMemberDef plain_members[] = {
    {"hits", T_LONGLONG, offsetof(PlainRequests, hits), 0, NULL},
    {"misses", T_LONGLONG, offsetof(PlainRequests, misses), 0, NULL},
    {"puts", T_LONGLONG, offsetof(PlainRequests, puts), 0, NULL},
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
