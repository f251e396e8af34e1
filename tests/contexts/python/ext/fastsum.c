#include <Python.h>
static PyObject *fastsum(PyObject *self, PyObject *args) {
    long n, sum = 0;
    if (!PyArg_ParseTuple(args, "l", &n)) return NULL;
    for (long i = 1; i <= n; i++) sum += i;
    return PyLong_FromLong(sum);
}
static PyMethodDef methods[] = {{"fastsum", fastsum, METH_VARARGS, "1 + … + n"}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fastsum", NULL, -1, methods};
PyMODINIT_FUNC PyInit_fastsum(void) { return PyModule_Create(&module); }
