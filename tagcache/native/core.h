/* The interfaces between the parts of the native core. */

#ifndef TAGCACHE_CORE_H
#define TAGCACHE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* See python_entry.py; these are measured for the native types. */
#define ENTRY_BYTES 155
#define REFERENCE_BYTES 12
#define TAG_BYTES 130

/* A place in two rings; tagcache/engine/python_entry.py describes them.
 *
 * A place outside a ring has null pointers for it. The pointers are borrowed: the tables own the
 * entries, and a freed place leaves its rings first. So an entry needs no header of the garbage
 * collector, and moving it changes no reference count. */
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
extern PyTypeObject StoreFieldsType;
extern PyTypeObject TagTotalsType;
extern PyTypeObject SieveHandType;

/* A neighbour as an attribute; AttributeError with this name if there is none. */
PyObject *neighbour(void *place, const char *name);

/* Whether a place may join a ring before another one; sets an exception if not. */
bool may_join(bool is_free, bool is_ring);

/* Add a place that is in no such ring to one, before another place. */
void join_storing(Links *place, Links *newer);
void join_bucket(Links *place, Links *later);

/* Move a place that is in the order of storing to its end. */
void move_storing(Links *place, Links *end);

/* Leave the bucket, if it is in one. */
void leave_bucket(Links *self);

/* Leave both rings. */
PyObject *links_break_links(Links *self, PyObject *none);
void links_dealloc(Links *self);

PyObject *iterate(Entries *table, enum yielded yielded);

/* The entry with this key, borrowed, or NULL. */
Entry *find_entry(const Entries *table, PyObject *key, Py_hash_t hash);

/* For `prefetch`: the slot at which the search for this hash begins, and the entry that it probably
 * finds; NULL if there is none. */
void prefetch_slot(const Entries *table, Py_hash_t hash);
const Entry *likely_entry(const Entries *table, Py_hash_t hash);

/* Add an entry with a new key; -1 with MemoryError. */
int add_entry(Entries *table, Entry *entry);

/* Remove an entry, if it is there. Allocates no memory. */
void drop_entry(Entries *table, const Entry *entry);

/* An entry, or a UsedEntry if `type` is that; a new reference, or NULL with an exception. */
Entry *new_entry(PyTypeObject *type, PyObject *key, PyObject *value, PyObject *tags, double stored,
                 double ttl);

static inline bool
is_entry(const PyObject *object)
{
    return Py_TYPE(object) == &EntryType || Py_TYPE(object) == &UsedEntryType;
}

/* Add a UsedEntry that is in no order of use to one, before another one. */
void join_use(Entry *entry, Entry *hotter);

/* Note that a UsedEntry was used: it moves to the hot end of its order, which is before `end`. */
void use_again(Entry *entry, Entry *end);

/* The key of an entry as bytes; a new reference, or NULL with MemoryError. */
PyObject *entry_key(const Entry *entry);

/* The attributes of a Store that storing needs, with their names in tagcache/engine/store.py. */
typedef struct {
    PyObject_HEAD
    PyObject *end, *sieve, *watchers, *tags, *expiry;
    long long items, size, key_size;
} StoreFields;

/* The attributes of a TagIndex, with their names in tagcache/engine/tags.py. */
typedef struct {
    PyObject_HEAD
    PyObject *shards;
    long long references, count_all, name_bytes;
} TagTotals;

/* The attribute of a Sieve; see tagcache/engine/eviction.py. */
typedef struct {
    PyObject_HEAD
    PyObject *hand;
} SieveHand;

/* Prepare the names that `add_tags` uses; -1 with an exception. */
int tagging_ready(void);

/* The table among the carriers of a tag that holds an entry, or would hold it; borrowed. NULL if
 * there is none, or it is not one of ours; sets no exception. */
Entries *table_among(PyObject *carriers, const Entry *entry);

/* Add an entry to its tags; false if nothing was changed, without an exception. */
bool add_tags(TagTotals *index, Entry *entry);

/* The protocol of requests and replies; the values are those of tagcache.native. */
enum dialect { LINE, RESP2, RESP3, HTTP };

/* The heads of HTTP requests that may come again on a connection; see http_head.c. */
typedef struct HttpHeads HttpHeads;
extern PyTypeObject HttpHeadsType;

/* The kinds of requests, in the order of the verbs of tagcache.native.NativeAnswers. STORE is PUT
 * or SET, TAG_STORE is TAG.SET. */
enum verb {
    LOOK_UP, STORE, TAG_STORE, LOOK_UP_MANY, INCR, DECR, INCRBY, DECRBY, DELETE, FETCH, TOUCH,
    EXPIRE, PEXPIRE, TTL_LEFT, PTTL_LEFT, EXISTS, VERBS
};

/* What a connection answers natively. The readers are called with the bytes of a request after the
 * key in a line, or after the value in RESP, or with the fields of a JSON object; they return the
 * options of the store, or None if these are not plain, or raise. */
typedef struct {
    enum dialect dialect;
    PyObject *read_options;
    PyObject *read_tag_options;
    PyObject *verbs;  /* tuple: their names; NULL: no durations are measured */
    HttpHeads *heads; /* in HTTP */
} Answers;

/* The parsed options of a store. */
typedef struct {
    PyObject *reader; /* parses their text */
    PyObject *text;   /* bytes */
    PyObject *tags;   /* tuple of bytes */
    double ttl;       /* 0: the text is the rest after a time to live */
} How;

/* How many of them are remembered. */
#define KNOWN 4096

/* Answers plain requests for one cache; see plain.c. */
typedef struct {
    PyObject_HEAD
    StoreFields *store;
    PyObject *shards;  /* list of Entries, by the lowest bits of the hash of the key */
    PyObject *dead;    /* list of tables of entries that were invalidated */
    PyObject *removed; /* dict; Python answers look-ups of its keys */
    Entry *uses;       /* the end of the order of use; NULL: the policy is not LRU */
    PyObject *on_sample;
    PyObject *put;      /* called with key, value and options */
    PyObject *delete;   /* called with a key; returns whether it was there */
    PyObject *headroom; /* returns the number of stores for which there is memory */
    PyObject *limits;   /* the limits against which options must be checked; NULL: none */
    Py_ssize_t longest_key, longest_value, longest_kept_value; /* the last: without new memory */
    Py_ssize_t most_tags, longest_tag;
    long long max_memory; /* 0: no limit */
    bool has_tag_rules;
    How *known;      /* by a hash of the text; forgotten when limits change */
    bool called_python; /* whether Python was called since this was last reset */
    long long hits, misses, puts, until_sample, enough_for;
} PlainRequests;

/* Replies that wait to be sent together. */
typedef struct {
    char *bytes;
    size_t length, capacity;
} Output;

/* The counts as a tuple; NULL with an exception. */
PyObject *tuple_of_counts(const long long counts[VERBS]);

/* Seconds of the monotonic clock, which is Python's time.monotonic(). */
static inline double
seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

extern PyTypeObject PlainType;
extern PyTypeObject PumpType;
extern PyTypeObject ChannelType;

#endif
