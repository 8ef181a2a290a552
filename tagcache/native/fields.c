/* StoreFields, TagTotals and SieveHand: the attributes that storing needs of Store, TagIndex and
 * Sieve, which are in Python. */

#include "core.h"

#include <structmember.h>

/* Store */

static int
store_traverse(StoreFields *self, visitproc visit, void *arg)
{
    Py_VISIT(self->end);
    Py_VISIT(self->sieve);
    Py_VISIT(self->watchers);
    Py_VISIT(self->tags);
    Py_VISIT(self->expiry);
    return 0;
}

static int
store_clear(StoreFields *self)
{
    Py_CLEAR(self->end);
    Py_CLEAR(self->sieve);
    Py_CLEAR(self->watchers);
    Py_CLEAR(self->tags);
    Py_CLEAR(self->expiry);
    return 0;
}

static void
store_dealloc(StoreFields *self)
{
    PyObject_GC_UnTrack(self);
    store_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef store_members[] = {
    {"end", T_OBJECT_EX, offsetof(StoreFields, end), 0, NULL},
    {"sieve", T_OBJECT_EX, offsetof(StoreFields, sieve), 0, NULL},
    {"watchers", T_OBJECT_EX, offsetof(StoreFields, watchers), 0, NULL},
    {"tags", T_OBJECT_EX, offsetof(StoreFields, tags), 0, NULL},
    {"expiry", T_OBJECT_EX, offsetof(StoreFields, expiry), 0, NULL},
    {"items", T_LONGLONG, offsetof(StoreFields, items), 0, NULL},
    {"size", T_LONGLONG, offsetof(StoreFields, size), 0, NULL},
    {"key_size", T_LONGLONG, offsetof(StoreFields, key_size), 0, NULL},
    {NULL},
};

PyTypeObject StoreFieldsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.StoreFields",
    .tp_doc = "The attributes of a Store.",
    .tp_basicsize = sizeof(StoreFields),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)store_dealloc,
    .tp_traverse = (traverseproc)store_traverse,
    .tp_clear = (inquiry)store_clear,
    .tp_members = store_members,
};

/* TagIndex */

static int
totals_traverse(TagTotals *self, visitproc visit, void *arg)
{
    Py_VISIT(self->shards);
    return 0;
}

static int
totals_clear(TagTotals *self)
{
    Py_CLEAR(self->shards);
    return 0;
}

static void
totals_dealloc(TagTotals *self)
{
    PyObject_GC_UnTrack(self);
    totals_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef totals_members[] = {
    {"shards", T_OBJECT_EX, offsetof(TagTotals, shards), 0, NULL},
    {"references", T_LONGLONG, offsetof(TagTotals, references), 0, NULL},
    {"count_all", T_LONGLONG, offsetof(TagTotals, count_all), 0, NULL},
    {"name_bytes", T_LONGLONG, offsetof(TagTotals, name_bytes), 0, NULL},
    {NULL},
};

PyTypeObject TagTotalsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.TagTotals",
    .tp_doc = "The attributes of a TagIndex.",
    .tp_basicsize = sizeof(TagTotals),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)totals_dealloc,
    .tp_traverse = (traverseproc)totals_traverse,
    .tp_clear = (inquiry)totals_clear,
    .tp_members = totals_members,
};

/* Sieve */

static int
hand_traverse(SieveHand *self, visitproc visit, void *arg)
{
    Py_VISIT(self->hand);
    return 0;
}

static int
hand_clear(SieveHand *self)
{
    Py_CLEAR(self->hand);
    return 0;
}

static void
hand_dealloc(SieveHand *self)
{
    PyObject_GC_UnTrack(self);
    hand_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef hand_members[] = {
    {"hand", T_OBJECT_EX, offsetof(SieveHand, hand), 0, NULL},
    {NULL},
};

PyTypeObject SieveHandType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.SieveHand",
    .tp_doc = "The attribute of a Sieve.",
    .tp_basicsize = sizeof(SieveHand),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)hand_dealloc,
    .tp_traverse = (traverseproc)hand_traverse,
    .tp_clear = (inquiry)hand_clear,
    .tp_members = hand_members,
};
