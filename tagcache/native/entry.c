/* Entry and UsedEntry: a stored value and its metadata. */

#include "core.h"

#include <math.h>
#include <structmember.h>

#define MAX_KEY_LENGTH 0x7fffffff

/* The order of use */

static Use *
use_of(const Entry *entry)
{
    size_t end = offsetof(Entry, key) + entry->key_length;
    size_t aligned = (end + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
    return (Use *)((char *)entry + aligned);
}

void
join_use(Entry *entry, Entry *hotter)
{
    Use *use = use_of(entry);
    use->hotter = hotter;
    use->colder = use_of(hotter)->colder;
    use_of(use->colder)->hotter = entry;
    use_of(hotter)->colder = entry;
}

static void
leave_use(Entry *entry)
{
    Use *use = use_of(entry);
    if (use->colder == NULL) {
        return;
    }
    use_of(use->colder)->hotter = use->hotter;
    use_of(use->hotter)->colder = use->colder;
    use->colder = use->hotter = NULL;
}

void
use_again(Entry *entry, Entry *end)
{
    leave_use(entry);
    join_use(entry, end);
}

/* Entry */

Entry *
new_entry(PyTypeObject *type, PyObject *key, PyObject *value, PyObject *tags, double stored,
          double ttl)
{
    Py_hash_t hash = PyObject_Hash(key);
    Py_ssize_t length = PyBytes_GET_SIZE(key);
    if (length > MAX_KEY_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "the key is too long");
        return NULL;
    }
    size_t size = offsetof(Entry, key) + (size_t)length;
    if (type == &UsedEntryType) {
        size += sizeof(void *) - 1 + sizeof(Use);
    }
    Entry *entry = PyObject_Calloc(1, size);
    if (entry == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject_Init((PyObject *)entry, type);
    entry->value = Py_NewRef(value);
    entry->tags = Py_NewRef(tags);
    entry->stored = stored;
    entry->ttl = ttl;
    entry->hash = hash;
    entry->key_length = (uint32_t)length;
    memcpy(entry->key, PyBytes_AS_STRING(key), (size_t)length);
    return entry;
}

/* Make an entry, or a UsedEntry if `type` is that: key, value, tags, stored, ttl. */
static PyObject *
entry_vectorcall(PyObject *type, PyObject *const *arguments, size_t count, PyObject *names)
{
    if (PyVectorcall_NARGS(count) != 5 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "an entry has five arguments");
        return NULL;
    }
    PyObject *key = arguments[0], *value = arguments[1], *tags = arguments[2];
    if (!PyBytes_CheckExact(key) || !PyBytes_CheckExact(value) || !PyTuple_CheckExact(tags)) {
        PyErr_SetString(PyExc_TypeError, "an entry has bytes, bytes and a tuple");
        return NULL;
    }
    double stored = PyFloat_AsDouble(arguments[3]);
    double ttl = PyFloat_AsDouble(arguments[4]);
    return PyErr_Occurred()
               ? NULL
               : (PyObject *)new_entry((PyTypeObject *)type, key, value, tags, stored, ttl);
}

static void
entry_dealloc(Entry *self)
{
    if (Py_TYPE(self) == &UsedEntryType) {
        leave_use(self);
    }
    Py_DECREF(self->value);
    Py_DECREF(self->tags);
    links_dealloc(&self->links);
}

PyObject *
entry_key(const Entry *entry)
{
    return PyBytes_FromStringAndSize(entry->key, entry->key_length);
}

static PyObject *
entry_get_key(Entry *self, void *Py_UNUSED(closure))
{
    return entry_key(self);
}

static int
replace(PyObject **attribute, PyObject *value, PyTypeObject *type)
{
    if (value == NULL || Py_TYPE(value) != type) {
        PyErr_Format(PyExc_TypeError, "not %s: %R", type->tp_name, value);
        return -1;
    }
    Py_SETREF(*attribute, Py_NewRef(value));
    return 0;
}

static PyObject *
entry_get_value(Entry *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->value);
}

static int
entry_set_value(Entry *self, PyObject *value, void *Py_UNUSED(closure))
{
    return replace(&self->value, value, &PyBytes_Type);
}

static PyObject *
entry_get_tags(Entry *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->tags);
}

static int
entry_set_tags(Entry *self, PyObject *tags, void *Py_UNUSED(closure))
{
    return replace(&self->tags, tags, &PyTuple_Type);
}

static PyObject *
entry_get_visited(Entry *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->visited);
}

static int
entry_set_visited(Entry *self, PyObject *value, void *Py_UNUSED(closure))
{
    int visited = value == NULL ? -1 : PyObject_IsTrue(value);
    if (visited < 0) {
        return -1;
    }
    self->visited = visited != 0;
    return 0;
}

static PyObject *
entry_get_expires(Entry *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(self->stored + self->ttl);
}

/* In milliseconds; None without a time to live. Beyond 2**53 it is rounded, up to 2**64 - 1. */
static PyObject *
entry_get_ttl_ms(Entry *self, void *Py_UNUSED(closure))
{
    if (isinf(self->ttl)) {
        Py_RETURN_NONE;
    }
    double ms = nearbyint(self->ttl * 1000);
    if (ms >= 18446744073709551615.0) {
        return PyLong_FromUnsignedLongLong(UINT64_MAX);
    }
    return PyLong_FromDouble(ms);
}

static PyObject *
entry_sizeof(Entry *self, PyObject *Py_UNUSED(none))
{
    size_t size = offsetof(Entry, key) + self->key_length;
    if (Py_TYPE(self) == &UsedEntryType) {
        size = (size_t)((char *)(use_of(self) + 1) - (char *)self);
    }
    return PyLong_FromSize_t(size);
}

static PyGetSetDef entry_attributes[] = {
    {"key", (getter)entry_get_key, NULL, NULL, NULL},
    {"value", (getter)entry_get_value, (setter)entry_set_value, NULL, NULL},
    {"tags", (getter)entry_get_tags, (setter)entry_set_tags, NULL, NULL},
    {"visited", (getter)entry_get_visited, (setter)entry_set_visited, NULL, NULL},
    {"expires", (getter)entry_get_expires, NULL, NULL, NULL},
    {"ttl_ms", (getter)entry_get_ttl_ms, NULL, NULL, NULL},
    {NULL},
};

static PyMemberDef entry_members[] = {
    {"stored", T_DOUBLE, offsetof(Entry, stored), 0, NULL},
    {"ttl", T_DOUBLE, offsetof(Entry, ttl), 0, NULL},
    {NULL},
};

static PyMethodDef entry_methods[] = {
    {"__sizeof__", (PyCFunction)entry_sizeof, METH_NOARGS, NULL},
    {NULL},
};

PyTypeObject EntryType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.Entry",
    .tp_doc = "A value with its tags, time to live and age.",
    .tp_base = &LinksType,
    .tp_basicsize = sizeof(Entry),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall = entry_vectorcall,
    .tp_dealloc = (destructor)entry_dealloc,
    .tp_getset = entry_attributes,
    .tp_members = entry_members,
    .tp_methods = entry_methods,
};

/* UsedEntry */

static PyObject *
used_get_colder(Entry *self, void *Py_UNUSED(closure))
{
    return neighbour(use_of(self)->colder, "colder");
}

static PyObject *
used_get_hotter(Entry *self, void *Py_UNUSED(closure))
{
    return neighbour(use_of(self)->hotter, "hotter");
}

static PyGetSetDef used_attributes[] = {
    {"colder", (getter)used_get_colder, NULL, NULL, NULL},
    {"hotter", (getter)used_get_hotter, NULL, NULL, NULL},
    {NULL},
};

static PyObject *
used_start_use(Entry *self, PyObject *Py_UNUSED(none))
{
    /* Entries in its former ring stay there without it. */
    leave_use(self);
    use_of(self)->colder = use_of(self)->hotter = self;
    Py_RETURN_NONE;
}

static PyObject *
used_use_before(Entry *self, PyObject *hotter)
{
    if (Py_TYPE(hotter) != &UsedEntryType) {
        return PyErr_Format(PyExc_TypeError, "not a UsedEntry: %R", hotter);
    }
    if (!may_join(use_of(self)->colder == NULL, use_of((Entry *)hotter)->colder != NULL)) {
        return NULL;
    }
    join_use(self, (Entry *)hotter);
    Py_RETURN_NONE;
}

static PyObject *
used_leave_use(Entry *self, PyObject *Py_UNUSED(none))
{
    leave_use(self);
    Py_RETURN_NONE;
}

static PyObject *
used_break_links(Entry *self, PyObject *none)
{
    leave_use(self);
    return links_break_links(&self->links, none);
}

static PyMethodDef used_methods[] = {
    {"break_links", (PyCFunction)used_break_links, METH_NOARGS, NULL},
    {"start_use", (PyCFunction)used_start_use, METH_NOARGS, NULL},
    {"use_before", (PyCFunction)used_use_before, METH_O, NULL},
    {"leave_use", (PyCFunction)used_leave_use, METH_NOARGS, NULL},
    {NULL},
};

PyTypeObject UsedEntryType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.UsedEntry",
    .tp_doc = "An entry with its neighbours in the order of use.",
    .tp_base = &EntryType,
    .tp_basicsize = sizeof(Entry),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall = entry_vectorcall,
    .tp_dealloc = (destructor)entry_dealloc,
    .tp_getset = used_attributes,
    .tp_methods = used_methods,
};
