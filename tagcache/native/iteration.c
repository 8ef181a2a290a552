/* Iteration over a table of entries.
 *
 * It goes by the numbers of slots, so any change meanwhile is safe; but an entry that moves may be
 * left out, or come twice. */

#include "core.h"

typedef struct {
    PyObject_HEAD
    Entries *table;
    uint32_t next;
    enum yielded yielded;
} EntriesIterator;

PyObject *
iterate(Entries *table, enum yielded yielded)
{
    EntriesIterator *iterator = PyObject_New(EntriesIterator, &EntriesIteratorType);
    if (iterator != NULL) {
        iterator->table = (Entries *)Py_NewRef((PyObject *)table);
        iterator->next = 0;
        iterator->yielded = yielded;
    }
    return (PyObject *)iterator;
}

static void
iterator_dealloc(EntriesIterator *self)
{
    Py_DECREF(self->table);
    PyObject_Free(self);
}

static PyObject *
iterator_item(const Entry *entry)
{
    PyObject *key = entry_key(entry);
    if (key == NULL) {
        return NULL;
    }
    PyObject *item = PyTuple_Pack(2, key, (PyObject *)entry);
    Py_DECREF(key);
    return item;
}

static PyObject *
iterator_next(EntriesIterator *self)
{
    const Entries *table = self->table;
    while (self->next < table->top) {
        uint64_t slot = table->slots[self->next++];
        if (slot != 0) {
            switch (self->yielded) {
            case KEYS:
                return entry_key(entry_in(slot));
            case VALUES:
                return Py_NewRef((PyObject *)entry_in(slot));
            case ITEMS:
                return iterator_item(entry_in(slot));
            }
        }
    }
    return NULL;
}

/* How many items are left, so that a list of them is allocated only once. */
static PyObject *
iterator_length_hint(EntriesIterator *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLong(self->next == 0 ? self->table->used : 0);
}

static PyMethodDef iterator_methods[] = {
    {"__length_hint__", (PyCFunction)iterator_length_hint, METH_NOARGS, NULL},
    {NULL},
};

PyTypeObject EntriesIteratorType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.EntriesIterator",
    .tp_basicsize = sizeof(EntriesIterator),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)iterator_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)iterator_next,
    .tp_methods = iterator_methods,
};

