/* Links: a place in the order of storing and in a bucket of the expiry index. */

#include "core.h"

/* The rings. A place must be in no ring before it joins one, before another place. */

void
join_storing(Links *place, Links *newer)
{
    place->newer = newer;
    place->older = newer->older;
    place->older->newer = place;
    newer->older = place;
}

static void
leave_storing(Links *place)
{
    if (place->older == NULL) {
        return;
    }
    place->older->newer = place->newer;
    place->newer->older = place->older;
    place->older = place->newer = NULL;
}

void
move_storing(Links *place, Links *end)
{
    leave_storing(place);
    join_storing(place, end);
}

void
join_bucket(Links *place, Links *later)
{
    place->later = later;
    place->sooner = later->sooner;
    place->sooner->later = place;
    later->sooner = place;
}

void
leave_bucket(Links *place)
{
    if (place->sooner == NULL) {
        return;
    }
    place->sooner->later = place->later;
    place->later->sooner = place->sooner;
    place->sooner = place->later = NULL;
}

/* Arguments and attributes. */

static bool
is_links(PyObject *object)
{
    return PyObject_TypeCheck(object, &LinksType);
}

PyObject *
neighbour(void *place, const char *name)
{
    if (place == NULL) {
        PyErr_SetString(PyExc_AttributeError, name);
        return NULL;
    }
    return Py_NewRef((PyObject *)place);
}

bool
may_join(bool is_free, bool is_ring)
{
    if (!is_free) {
        PyErr_SetString(PyExc_ValueError, "the place is in such a ring already");
    } else if (!is_ring) {
        PyErr_SetString(PyExc_ValueError, "the other place is in no ring");
    }
    return is_free && is_ring;
}

/* Links */

static PyObject *
links_get_older(Links *self, void *Py_UNUSED(closure))
{
    return neighbour(self->older, "older");
}

static PyObject *
links_get_newer(Links *self, void *Py_UNUSED(closure))
{
    return neighbour(self->newer, "newer");
}

static PyObject *
links_get_sooner(Links *self, void *Py_UNUSED(closure))
{
    return neighbour(self->sooner, "sooner");
}

static PyObject *
links_get_later(Links *self, void *Py_UNUSED(closure))
{
    return neighbour(self->later, "later");
}

static PyGetSetDef links_attributes[] = {
    {"older", (getter)links_get_older, NULL, NULL, NULL},
    {"newer", (getter)links_get_newer, NULL, NULL, NULL},
    {"sooner", (getter)links_get_sooner, NULL, NULL, NULL},
    {"later", (getter)links_get_later, NULL, NULL, NULL},
    {NULL},
};

static PyObject *
links_start_rings(Links *self, PyObject *Py_UNUSED(none))
{
    if (!may_join(self->older == NULL && self->sooner == NULL, true)) {
        return NULL;
    }
    self->older = self->newer = self;
    self->sooner = self->later = self;
    Py_RETURN_NONE;
}

PyObject *
links_break_links(Links *self, PyObject *Py_UNUSED(none))
{
    leave_storing(self);
    leave_bucket(self);
    Py_RETURN_NONE;
}

static PyObject *
links_link_before(Links *self, PyObject *newer)
{
    if (!is_links(newer)) {
        return PyErr_Format(PyExc_TypeError, "not a Links: %R", newer);
    }
    if (!may_join(self->older == NULL, ((Links *)newer)->older != NULL)) {
        return NULL;
    }
    join_storing(self, (Links *)newer);
    Py_RETURN_NONE;
}

static PyObject *
links_move_before(Links *self, PyObject *newer)
{
    if (is_links(newer)) {
        leave_storing(self);
    }
    return links_link_before(self, newer);
}

static PyObject *
links_unlink(Links *self, PyObject *Py_UNUSED(none))
{
    leave_storing(self);
    Py_RETURN_NONE;
}

static PyObject *
links_wait_in(Links *self, PyObject *bucket)
{
    if (!is_links(bucket)) {
        return PyErr_Format(PyExc_TypeError, "not a Links: %R", bucket);
    }
    if (!may_join(self->sooner == NULL, ((Links *)bucket)->sooner != NULL)) {
        return NULL;
    }
    join_bucket(self, (Links *)bucket);
    Py_RETURN_NONE;
}

static PyObject *
links_take_back(Links *self, PyObject *Py_UNUSED(none))
{
    leave_bucket(self);
    Py_RETURN_NONE;
}

static PyMethodDef links_methods[] = {
    {"start_rings", (PyCFunction)links_start_rings, METH_NOARGS, NULL},
    {"break_links", (PyCFunction)links_break_links, METH_NOARGS, NULL},
    {"link_before", (PyCFunction)links_link_before, METH_O, NULL},
    {"move_before", (PyCFunction)links_move_before, METH_O, NULL},
    {"unlink", (PyCFunction)links_unlink, METH_NOARGS, NULL},
    {"wait_in", (PyCFunction)links_wait_in, METH_O, NULL},
    {"take_back", (PyCFunction)links_take_back, METH_NOARGS, NULL},
    {NULL},
};

void
links_dealloc(Links *self)
{
    leave_storing(self);
    leave_bucket(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyTypeObject LinksType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tagcache.native.Links",
    .tp_doc = "A place in two rings.",
    .tp_basicsize = sizeof(Links),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)links_dealloc,
    .tp_getset = links_attributes,
    .tp_methods = links_methods,
};
