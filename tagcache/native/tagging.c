/* Add the tags of a new entry to the tag index, as TagIndex.add in tagcache/engine/tags.py does.
 *
 * The index has for each tag a single entry, or a table of them, or an object with the tables as its
 * `parts`, by the lowest bits of the hash of the key. */

#include "core.h"

/* Python splits a larger table. */
#define LARGEST_TABLE 16384

static PyObject *PARTS;

int
tagging_ready(void)
{
    if (PARTS == NULL) {
        PARTS = PyUnicode_InternFromString("parts");
    }
    return PARTS == NULL ? -1 : 0;
}

/* The member of a list that a hash chooses, borrowed; NULL if it has another type. */
static PyObject *
chosen(PyObject *list, Py_hash_t hash, PyTypeObject *type)
{
    if (list == NULL || !PyList_CheckExact(list) || PyList_GET_SIZE(list) == 0) {
        return NULL;
    }
    PyObject *member = PyList_GET_ITEM(list, hash & (PyList_GET_SIZE(list) - 1));
    return Py_TYPE(member) == type ? member : NULL;
}

Entries *
table_among(PyObject *carriers, const Entry *entry)
{
    if (Py_TYPE(carriers) == &EntriesType) {
        return (Entries *)carriers;
    }
    PyObject *parts = PyObject_GetAttr(carriers, PARTS);
    Entries *table = (Entries *)chosen(parts, entry->hash, &EntriesType);
    PyErr_Clear();
    /* The carriers hold it. */
    Py_XDECREF(parts);
    return table;
}

/* Replace an entry by a new table with this entry and another one. */
static bool
make_table(PyObject *shard, PyObject *tag, Entry *first, Entry *second)
{
    Entries *both = (Entries *)EntriesType.tp_alloc(&EntriesType, 0);
    bool made = both != NULL && add_entry(both, first) == 0 && add_entry(both, second) == 0 &&
                PyDict_SetItem(shard, tag, (PyObject *)both) == 0;
    Py_XDECREF(both);
    return made;
}

/* Return how many tags are new, 0 or 1; -1 if nothing was changed. */
static int
add_tag(TagTotals *index, Entry *entry, PyObject *tag)
{
    PyObject *shard = chosen(index->shards, PyObject_Hash(tag), &PyDict_Type);
    PyObject *carriers = shard == NULL ? NULL : PyDict_GetItemWithError(shard, tag);
    if (shard == NULL || PyErr_Occurred()) {
        return -1;
    }
    if (carriers == NULL) {
        return PyDict_SetItem(shard, tag, (PyObject *)entry) == 0 ? 1 : -1;
    }
    if (is_entry(carriers)) {
        return make_table(shard, tag, (Entry *)carriers, entry) ? 0 : -1;
    }
    Entries *table = table_among(carriers, entry);
    bool is_full = table == (Entries *)carriers && table->used >= LARGEST_TABLE;
    return table == NULL || is_full ? -1 : add_entry(table, entry);
}

/* Remove an entry from the carriers of a tag, if it is there. Allocates no memory. */
static void
discard_tag(TagTotals *index, Entry *entry, PyObject *tag)
{
    PyObject *shard = chosen(index->shards, PyObject_Hash(tag), &PyDict_Type);
    PyObject *carriers = shard == NULL ? NULL : PyDict_GetItemWithError(shard, tag);
    if (carriers == (PyObject *)entry) {
        PyDict_DelItem(shard, tag);
    } else if (carriers != NULL && !is_entry(carriers)) {
        Entries *table = table_among(carriers, entry);
        if (table != NULL) {
            drop_entry(table, entry);
        }
    }
}

bool
add_tags(TagTotals *index, Entry *entry)
{
    Py_ssize_t count = PyTuple_GET_SIZE(entry->tags);
    long long names = 0, name_bytes = 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *tag = PyTuple_GET_ITEM(entry->tags, at);
        int added = PyBytes_CheckExact(tag) ? add_tag(index, entry, tag) : -1;
        if (added < 0) {
            PyErr_Clear();
            while (at-- > 0) {
                discard_tag(index, entry, PyTuple_GET_ITEM(entry->tags, at));
            }
            return false;
        }
        names += added;
        name_bytes += added * PyBytes_GET_SIZE(tag);
    }
    index->references += count;
    index->count_all += names;
    index->name_bytes += name_bytes;
    return true;
}
