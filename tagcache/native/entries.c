/* Entries: a table of entries by key, in eight bytes a slot.
 *
 * A slot holds a pointer to an entry, of which 48 bits are significant, and above it 16 bits of the
 * hash of its key, so that a look-up reads no other entry than the one it finds. An entry is in the
 * first free slot from its home on (linear probing), and a removal moves the following ones back. So
 * there are no marks of removed entries, and a table whose entries come and go never degrades. */

#include "core.h"

#define FEWEST_SLOTS 5

/* Uses other bits than the lowest ones, which choose the table (see tagcache/engine/store.py). */
static uint64_t
hash_mark(Py_hash_t hash)
{
    return ((uint64_t)hash >> 16 & 0xffff) << POINTER_BITS;
}

static uint32_t
home_of(const Entries *table, Py_hash_t hash)
{
    return (uint32_t)(((uint64_t)hash >> 32) * table->size >> 32);
}

static uint32_t
after(const Entries *table, uint32_t at)
{
    return at + 1 == table->size ? 0 : at + 1;
}

/* The number of the slot with this key, or the table's size if there is none. */
static uint32_t
find(const Entries *table, PyObject *key, Py_hash_t hash)
{
    if (table->used == 0) {
        return table->size;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(key);
    uint64_t mark = hash_mark(hash);
    for (uint32_t at = home_of(table, hash); table->slots[at] != 0; at = after(table, at)) {
        uint64_t slot = table->slots[at];
        if ((slot & ~POINTER_MASK) == mark) {
            const Entry *entry = entry_in(slot);
            if (entry->hash == hash && entry->key_length == length &&
                memcmp(entry->key, PyBytes_AS_STRING(key), length) == 0) {
                return at;
            }
        }
    }
    return table->size;
}

/* Put an entry with a new key into the first free slot, of which there is one. */
static void
insert(Entries *table, uint64_t slot)
{
    uint32_t at = home_of(table, entry_in(slot)->hash);
    while (table->slots[at] != 0) {
        at = after(table, at);
    }
    table->slots[at] = slot;
    if (table->top <= at) {
        table->top = at + 1;
    }
}

/* Return -1 and change nothing if there is no memory; sets no exception. */
static int
resize(Entries *table, uint32_t size)
{
    uint64_t *slots = PyMem_Calloc(size, sizeof(uint64_t));
    if (slots == NULL) {
        return -1;
    }
    uint64_t *former = table->slots;
    uint32_t end = table->top;
    table->slots = slots;
    table->size = size;
    table->top = 0;
    for (uint32_t at = 0; at < end; at++) {
        if (former[at] != 0) {
            insert(table, former[at]);
        }
    }
    PyMem_Free(former);
    return 0;
}

/* At most four fifths of the slots are used, and one is always free. */
static int
make_room(Entries *table)
{
    if ((uint64_t)(table->used + 1) * 5 <= (uint64_t)table->size * 4) {
        return 0;
    }
    uint64_t size = table->size < FEWEST_SLOTS ? FEWEST_SLOTS : table->size + table->size / 2;
    if (size > UINT32_MAX || resize(table, (uint32_t)size) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Empty a slot; the caller takes over its reference. */
static Entry *
take(Entries *table, uint32_t hole)
{
    Entry *entry = entry_in(table->slots[hole]);
    table->slots[hole] = 0;
    table->used--;
    uint32_t size = table->size;
    for (uint32_t at = after(table, hole); table->slots[at] != 0; at = after(table, at)) {
        uint32_t home = home_of(table, entry_in(table->slots[at])->hash);
        /* It moves back unless its home is behind the hole. */
        if ((at + size - home) % size >= (at + size - hole) % size) {
            table->slots[hole] = table->slots[at];
            table->slots[at] = 0;
            hole = at;
        }
    }
    while (table->top > 0 && table->slots[table->top - 1] == 0) {
        table->top--;
    }
    if (size > FEWEST_SLOTS && table->used < size / 4) {
        /* This only saves memory, so it may fail. */
        (void)resize(table, size / 2);
    }
    return entry;
}

static bool
is_addressable(const Entry *entry)
{
    if ((uintptr_t)entry & ~(uintptr_t)POINTER_MASK) {
        PyErr_SetString(PyExc_SystemError, "an address has more than 48 bits");
        return false;
    }
    return true;
}

static uint64_t
slot_for(const Entry *entry)
{
    return hash_mark(entry->hash) | (uint64_t)(uintptr_t)entry;
}

int
add_entry(Entries *table, Entry *entry)
{
    if (!is_addressable(entry) || make_room(table) < 0) {
        return -1;
    }
    insert(table, slot_for(entry));
    table->used++;
    Py_INCREF(entry);
    return 0;
}

void
drop_entry(Entries *table, const Entry *entry)
{
    uint32_t at = table->used == 0 ? table->size : home_of(table, entry->hash);
    while (at != table->size && table->slots[at] != 0 && entry_in(table->slots[at]) != entry) {
        at = after(table, at);
    }
    if (at != table->size && table->slots[at] != 0) {
        Py_DECREF(take(table, at));
    }
}

static bool
is_key(PyObject *key)
{
    if (PyBytes_CheckExact(key)) {
        return true;
    }
    PyErr_Format(PyExc_TypeError, "a key is bytes, not %R", key);
    return false;
}

static uint32_t
look_up(const Entries *table, PyObject *key)
{
    return find(table, key, PyObject_Hash(key));
}

Entry *
find_entry(const Entries *table, PyObject *key, Py_hash_t hash)
{
    uint32_t at = find(table, key, hash);
    return at == table->size ? NULL : entry_in(table->slots[at]);
}

void
prefetch_slot(const Entries *table, Py_hash_t hash)
{
    if (table->used > 0) {
        __builtin_prefetch(&table->slots[home_of(table, hash)]);
    }
}

const Entry *
likely_entry(const Entries *table, Py_hash_t hash)
{
    if (table->used == 0) {
        return NULL;
    }
    uint32_t at = home_of(table, hash);
    while (table->slots[at] != 0 && (table->slots[at] & ~POINTER_MASK) != hash_mark(hash)) {
        at = after(table, at);
    }
    return entry_in(table->slots[at]);
}

/* The mapping */

static PyObject *
entries_get(Entries *self, PyObject *key)
{
    if (!is_key(key)) {
        return NULL;
    }
    uint32_t at = look_up(self, key);
    return Py_NewRef(at == self->size ? Py_None : (PyObject *)entry_in(self->slots[at]));
}

static PyObject *
entries_subscript(Entries *self, PyObject *key)
{
    if (!is_key(key)) {
        return NULL;
    }
    uint32_t at = look_up(self, key);
    if (at == self->size) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    return Py_NewRef((PyObject *)entry_in(self->slots[at]));
}

static int
entries_delete(Entries *self, PyObject *key)
{
    uint32_t at = look_up(self, key);
    if (at == self->size) {
        PyErr_SetObject(PyExc_KeyError, key);
        return -1;
    }
    Py_DECREF(take(self, at));
    return 0;
}

static int
entries_assign(Entries *self, PyObject *key, PyObject *value)
{
    if (!is_key(key)) {
        return -1;
    }
    if (value == NULL) {
        return entries_delete(self, key);
    }
    if (!PyObject_TypeCheck(value, &EntryType)) {
        PyErr_Format(PyExc_TypeError, "not an Entry: %R", value);
        return -1;
    }
    Entry *entry = (Entry *)value;
    if (entry->hash != PyObject_Hash(key) || entry->key_length != PyBytes_GET_SIZE(key) ||
        memcmp(entry->key, PyBytes_AS_STRING(key), entry->key_length) != 0) {
        PyErr_Format(PyExc_ValueError, "the entry has another key than %R", key);
        return -1;
    }
    uint32_t at = find(self, key, entry->hash);
    if (at == self->size) {
        return add_entry(self, entry);
    }
    if (!is_addressable(entry)) {
        return -1;
    }
    Entry *former = entry_in(self->slots[at]);
    self->slots[at] = slot_for(entry);
    Py_INCREF(entry);
    Py_DECREF(former);
    return 0;
}

static int
entries_contains(Entries *self, PyObject *key)
{
    return is_key(key) ? look_up(self, key) != self->size : -1;
}

static Py_ssize_t
entries_length(Entries *self)
{
    return self->used;
}

static PyObject *
entries_pop(Entries *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "pop has two arguments");
        return NULL;
    }
    if (!is_key(arguments[0])) {
        return NULL;
    }
    uint32_t at = look_up(self, arguments[0]);
    return at == self->size ? Py_NewRef(arguments[1]) : (PyObject *)take(self, at);
}

static bool
is_empty(const Entries *self)
{
    if (self->used == 0) {
        PyErr_SetString(PyExc_KeyError, "there are no entries");
    }
    return self->used == 0;
}

static PyObject *
entries_last(Entries *self, PyObject *Py_UNUSED(none))
{
    return is_empty(self) ? NULL : Py_NewRef((PyObject *)entry_in(self->slots[self->top - 1]));
}

static PyObject *
entries_pop_last(Entries *self, PyObject *Py_UNUSED(none))
{
    return is_empty(self) ? NULL : (PyObject *)take(self, self->top - 1);
}

static PyObject *
entries_clear(Entries *self, PyObject *Py_UNUSED(none))
{
    uint64_t *slots = self->slots;
    uint32_t end = self->top;
    self->slots = NULL;
    self->size = self->used = self->top = 0;
    for (uint32_t at = 0; at < end; at++) {
        if (slots[at] != 0) {
            Py_DECREF(entry_in(slots[at]));
        }
    }
    PyMem_Free(slots);
    Py_RETURN_NONE;
}

static PyObject *
entries_copy(Entries *self, PyObject *Py_UNUSED(none))
{
    Entries *copy = (Entries *)EntriesType.tp_alloc(&EntriesType, 0);
    if (copy == NULL || self->used == 0) {
        return (PyObject *)copy;
    }
    copy->slots = PyMem_Malloc(self->size * sizeof(uint64_t));
    if (copy->slots == NULL) {
        Py_DECREF(copy);
        return PyErr_NoMemory();
    }
    memcpy(copy->slots, self->slots, self->size * sizeof(uint64_t));
    copy->size = self->size;
    copy->used = self->used;
    copy->top = self->top;
    for (uint32_t at = 0; at < self->top; at++) {
        if (self->slots[at] != 0) {
            Py_INCREF(entry_in(self->slots[at]));
        }
    }
    return (PyObject *)copy;
}

static PyObject *
entries_sizeof(Entries *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromSize_t(sizeof(Entries) + self->size * sizeof(uint64_t));
}

static void
entries_dealloc(Entries *self)
{
    Py_DECREF(entries_clear(self, NULL));
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
entries_iter(Entries *self)
{
    return iterate(self, KEYS);
}

static PyObject *
entries_values(Entries *self, PyObject *Py_UNUSED(none))
{
    return iterate(self, VALUES);
}

static PyObject *
entries_items(Entries *self, PyObject *Py_UNUSED(none))
{
    return iterate(self, ITEMS);
}

static PyMethodDef entries_methods[] = {
    {"get", (PyCFunction)entries_get, METH_O, NULL},
    {"pop", (PyCFunction)(void (*)(void))entries_pop, METH_FASTCALL, NULL},
    {"last", (PyCFunction)entries_last, METH_NOARGS, NULL},
    {"pop_last", (PyCFunction)entries_pop_last, METH_NOARGS, NULL},
    {"clear", (PyCFunction)entries_clear, METH_NOARGS, NULL},
    {"copy", (PyCFunction)entries_copy, METH_NOARGS, NULL},
    {"values", (PyCFunction)entries_values, METH_NOARGS, NULL},
    {"items", (PyCFunction)entries_items, METH_NOARGS, NULL},
    {"__sizeof__", (PyCFunction)entries_sizeof, METH_NOARGS, NULL},
    {NULL},
};

static PyMappingMethods entries_mapping = {
    .mp_length = (lenfunc)entries_length,
    .mp_subscript = (binaryfunc)entries_subscript,
    .mp_ass_subscript = (objobjargproc)entries_assign,
};

static PySequenceMethods entries_sequence = {
    .sq_contains = (objobjproc)entries_contains,
};

PyTypeObject EntriesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.Entries",
    .tp_doc = "Entries by key.",
    .tp_basicsize = sizeof(Entries),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)entries_dealloc,
    .tp_iter = (getiterfunc)entries_iter,
    .tp_methods = entries_methods,
    .tp_as_mapping = &entries_mapping,
    .tp_as_sequence = &entries_sequence,
};
