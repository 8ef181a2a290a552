/* The module tagcache.native._core. */

#include "channel.h"
#include "plain.h"

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tagcache.native._core",
    .m_doc = "Entries and the tables that hold them; see tagcache/engine/python_entry.py.",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    if (PyType_Ready(&EntriesIteratorType) < 0 || PyType_Ready(&ChannelType) < 0 ||
        storing_ready() < 0 || options_ready() < 0 || tagging_ready() < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&core_module);
    if (module == NULL) {
        return NULL;
    }
    if (PyModule_AddIntConstant(module, "ENTRY_BYTES", ENTRY_BYTES) < 0 ||
        PyModule_AddIntConstant(module, "REFERENCE_BYTES", REFERENCE_BYTES) < 0 ||
        PyModule_AddIntConstant(module, "TAG_BYTES", TAG_BYTES) < 0 ||
        PyModule_AddType(module, &LinksType) < 0 || PyModule_AddType(module, &EntryType) < 0 ||
        PyModule_AddType(module, &UsedEntryType) < 0 ||
        PyModule_AddType(module, &EntriesType) < 0 || PyModule_AddType(module, &PlainType) < 0 ||
        PyModule_AddType(module, &PumpType) < 0 ||
        PyModule_AddType(module, &HttpHeadsType) < 0 ||
        PyModule_AddType(module, &StoreFieldsType) < 0 ||
        PyModule_AddType(module, &TagTotalsType) < 0 ||
        PyModule_AddType(module, &SieveHandType) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
