/* What the parts of the native core know of each other. */

#ifndef TAGCACHE_CORE_H
#define TAGCACHE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* A place in two rings; see tagcache/engine/python_entry.py for what they are.
 *
 * A place that is in no ring has null pointers there. The pointers are borrowed: the tables own the
 * entries, and a place that is freed leaves its rings first. So an entry needs no header of the
 * garbage collector, and to move it changes no reference count. */
typedef struct Links {
    PyObject_HEAD
    struct Links *older, *newer;
    struct Links *sooner, *later;
} Links;

/* The key follows in the same allocation; with UsedEntry, a Use follows the key. */
typedef struct Entry {
    Links links;
    PyObject *value; /* bytes */
    PyObject *tags;  /* tuple of bytes */
    double stored;
    double ttl;
    Py_hash_t hash; /* of the key, as Python has it */
    uint32_t visited : 1;
    uint32_t key_length : 31;
    char key[];
} Entry;

/* The place of an entry in the order of use. */
typedef struct Use {
    Entry *colder, *hotter;
} Use;

/* Entries by key; see entries.c. */
typedef struct {
    PyObject_HEAD
    uint64_t *slots;
    uint32_t size;
    uint32_t used;
    uint32_t top; /* All slots from here on are empty. */
} Entries;

#define POINTER_BITS 48
#define POINTER_MASK ((UINT64_C(1) << POINTER_BITS) - 1)

static inline Entry *
entry_in(uint64_t slot)
{
    return (Entry *)(uintptr_t)(slot & POINTER_MASK);
}

/* What an iteration over a table yields. */
enum yielded { KEYS, VALUES, ITEMS };

extern PyTypeObject LinksType;
extern PyTypeObject EntryType;
extern PyTypeObject UsedEntryType;
extern PyTypeObject EntriesType;
extern PyTypeObject EntriesIteratorType;

/* A neighbour as an attribute; AttributeError with this name if there is none. */
PyObject *neighbour(void *place, const char *name);

/* Whether a place may join a ring before another one; an exception is set if not. */
bool may_join(bool is_free, bool is_ring);

/* Leave both rings. */
PyObject *links_break_links(Links *self, PyObject *none);
void links_dealloc(Links *self);

PyObject *iterate(Entries *table, enum yielded yielded);

/* The key of an entry as bytes; a new reference, or NULL with MemoryError. */
PyObject *entry_key(const Entry *entry);

#endif
