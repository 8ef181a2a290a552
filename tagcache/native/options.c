/* The options of a store: parsed by Python once, and remembered by their text.
 *
 * A time to live is read here, so that texts which differ in it alone are remembered as one. */

#include "plain.h"

#include <math.h>

static PyObject *CHECKED, *GRACE_MS, *TAGS, *TTL;

static const struct {
    PyObject **name;
    const char *text;
} NAMES[] = {{&CHECKED, "checked"}, {&GRACE_MS, "grace_ms"}, {&TAGS, "tags"}, {&TTL, "ttl"}};

int
options_ready(void)
{
    for (size_t at = 0; at < sizeof(NAMES) / sizeof(NAMES[0]); at++) {
        if (*NAMES[at].name == NULL) {
            *NAMES[at].name = PyUnicode_InternFromString(NAMES[at].text);
        }
        if (*NAMES[at].name == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Whether an attribute is this object. No exception is left. */
static bool
is_attribute(PyObject *object, PyObject *name, PyObject *expected)
{
    PyObject *value = PyObject_GetAttr(object, name);
    PyErr_Clear();
    Py_XDECREF(value);
    return value == expected;
}

/* An attribute as a number, NaN if it is not one. No exception is left. */
static double
number_attribute(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    double number = value == NULL ? NAN : PyFloat_AsDouble(value);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        number = NAN;
    }
    Py_XDECREF(value);
    return number;
}

/* Reading */

/* The time to live at the beginning of a line's options, up to a tab; move behind the tab. */
static bool
take_field_ttl(Part *text, long long *ms)
{
    const char *tab = memchr(text->start, '\t', text->length);
    if (tab == NULL || !read_number((Part){text->start, (size_t)(tab - text->start)}, ms)) {
        return false;
    }
    *text = (Part){tab + 1, text->length - (size_t)(tab + 1 - text->start)};
    return true;
}

/* The same of EX seconds or PX milliseconds, as bulk strings. */
static bool
take_bulk_ttl(Part *text, long long *ms)
{
    size_t at = 0;
    Part name, number;
    if (!take_bulk(text->start, text->length, &at, &name) || name.length != 2 ||
        name.start[1] != 'X' || (name.start[0] != 'E' && name.start[0] != 'P') ||
        !take_bulk(text->start, text->length, &at, &number) || !read_number(number, ms) ||
        *ms > MOST_MS / 1000) {
        return false;
    }
    *ms *= name.start[0] == 'E' ? 1000 : 1;
    *text = (Part){text->start + at, text->length - at};
    return true;
}

Asked
read_asked(enum dialect dialect, Part text)
{
    Part rest = text;
    long long ms = 0;
    bool has_ttl = false; /* in HTTP, it is in JSON */
    if (dialect == LINE) {
        has_ttl = take_field_ttl(&rest, &ms);
    } else if (dialect != HTTP) {
        has_ttl = take_bulk_ttl(&rest, &ms);
    }
    if (!has_ttl || ms <= 0 || ms > MOST_MS) {
        return (Asked){text, 0};
    }
    return (Asked){rest, (double)ms / 1000};
}

/* Remembering */

/* The two places for a text. */
static How *
places_of(const PlainRequests *self, Part text)
{
    /* The best bits of a product are in its middle. */
    const uint64_t factor = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t hash = text.length, word = 0;
    size_t at = 0;
    for (; at + sizeof(word) <= text.length; at += sizeof(word)) {
        memcpy(&word, text.start + at, sizeof(word));
        hash = (hash ^ word ^ hash >> 32) * factor;
    }
    word = 0;
    memcpy(&word, text.start + at, text.length - at);
    hash = (hash ^ word ^ hash >> 32) * factor;
    return &self->known[(hash >> 32) % (KNOWN / 2) * 2];
}

static void
forget(How *how)
{
    Py_CLEAR(how->reader);
    Py_CLEAR(how->text);
    Py_CLEAR(how->tags);
}

void
forget_all(PlainRequests *self)
{
    for (size_t at = 0; self->known != NULL && at < KNOWN; at++) {
        forget(&self->known[at]);
    }
}

static bool
is_for(const How *how, PyObject *reader, const Asked *asked)
{
    return how->reader == reader && (asked->ttl > 0 || how->ttl > 0) &&
           (size_t)PyBytes_GET_SIZE(how->text) == asked->text.length &&
           memcmp(PyBytes_AS_STRING(how->text), asked->text.start, asked->text.length) == 0;
}

bool
recall(const PlainRequests *self, PyObject *reader, const Asked *asked, How *how)
{
    const How *places = places_of(self, asked->text);
    const How *known = is_for(places, reader, asked) ? places : places + 1;
    if (!is_for(known, reader, asked)) {
        return false;
    }
    *how = (How){NULL, NULL, known->tags, asked->ttl > 0 ? asked->ttl : known->ttl};
    return true;
}

void
remember(PlainRequests *self, PyObject *reader, const Asked *asked, PyObject *options)
{
    How *how = places_of(self, asked->text);
    PyObject *tags = PyObject_GetAttr(options, TAGS);
    PyObject *text = PyBytes_FromStringAndSize(asked->text.start, (Py_ssize_t)asked->text.length);
    /* Without one in the request, there may be a default. */
    double ttl = number_attribute(options, TTL);
    if (tags != NULL && text != NULL && PyTuple_CheckExact(tags) && ttl > 0 &&
        self->limits != NULL && !(self->has_tag_rules && PyTuple_GET_SIZE(tags) == 0) &&
        is_attribute(options, CHECKED, self->limits) && number_attribute(options, GRACE_MS) == 0) {
        forget(how + 1);
        how[1] = how[0];
        how[0] = (How){Py_NewRef(reader), Py_NewRef(text), Py_NewRef(tags),
                       asked->ttl > 0 ? 0 : ttl};
    }
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(tags);
}
