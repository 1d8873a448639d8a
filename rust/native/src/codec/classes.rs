//! The Python classes of one API's structs, with what the codec needs of each at hand.

use fastlog_protocol::schema::{Api, Default, Field, Kind, Struct};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyType};

/// The classes, at their structs' indexes.
pub(super) struct Classes {
    classes: Vec<Class>,
}

/// One struct's class.
pub(super) struct Class {
    /// The msgspec class, whose positional arguments are the fields in the table's order.
    pub(super) class: Py<PyType>,
    /// The fields' names, interned, and defaults.
    pub(super) fields: Vec<(Py<PyString>, DefaultValue)>,
}

/// How to get a field's default.
pub(super) enum DefaultValue {
    /// An object that cannot change.
    Shared(Py<PyAny>),
    /// A new list.
    List,
    /// A new struct of the class at the index.
    Struct(usize),
}

impl Classes {
    /// Takes the classes for `api` after a look whether they are those of its table.
    pub(super) fn new(api: &'static Api, structs: &[Bound<'_, PyType>]) -> PyResult<Self> {
        if structs.len() != api.structs.len() {
            let (want, got) = (api.structs.len(), structs.len());
            return Err(PyValueError::new_err(format!("{} has {want} structs, got {got} classes", api.name)));
        }
        let pairs = api.structs.iter().zip(structs);
        let classes = pairs.map(|(table, class)| Class::new(table, class)).collect::<PyResult<_>>()?;
        Ok(Self { classes })
    }

    /// The class of `table`.
    pub(super) fn of(&self, table: &'static Struct) -> PyResult<&Class> {
        let lost = || PyValueError::new_err(format!("no class for the struct {}", table.name));
        self.classes.get(table.index).ok_or_else(lost)
    }

    /// A default value, new where it could be changed.
    pub(super) fn default<'py>(&self, py: Python<'py>, value: &DefaultValue) -> PyResult<Bound<'py, PyAny>> {
        match value {
            DefaultValue::Shared(value) => Ok(value.bind(py).clone()),
            DefaultValue::List => Ok(PyList::empty(py).into_any()),
            DefaultValue::Struct(index) => {
                let class = self.classes.get(*index).ok_or_else(|| PyValueError::new_err("no class"))?;
                class.class.bind(py).call0()
            }
        }
    }
}

impl Class {
    fn new(table: &'static Struct, class: &Bound<'_, PyType>) -> PyResult<Self> {
        let names: Vec<String> = class.getattr("__struct_fields__")?.extract()?;
        let same = names.iter().map(String::as_str).eq(table.fields.iter().map(|field| field.name));
        if !same || class.name()?.to_str()? != table.name {
            let message = format!("{class} is not the struct {}: generated code is stale", table.name);
            return Err(PyValueError::new_err(message));
        }
        let py = class.py();
        let fields = table
            .fields
            .iter()
            .map(|field| Ok((PyString::intern(py, field.name).unbind(), DefaultValue::new(py, field)?)));
        Ok(Self { class: class.clone().unbind(), fields: fields.collect::<PyResult<_>>()? })
    }
}

impl DefaultValue {
    fn new(py: Python<'_>, field: &'static Field) -> PyResult<Self> {
        let shared = |value: Bound<'_, PyAny>| Ok(Self::Shared(value.unbind()));
        match (field.default, field.kind) {
            (Default::Null, _) => shared(py.None().into_bound(py)),
            _ if field.is_array() => Ok(Self::List),
            (Default::True, _) => shared(true.into_pyobject(py)?.to_owned().into_any()),
            (Default::Int(number), _) => shared(number.into_pyobject(py)?.into_any()),
            (Default::Empty, Kind::Bool) => shared(false.into_pyobject(py)?.to_owned().into_any()),
            (Default::Empty, Kind::String) => shared(PyString::new(py, "").into_any()),
            (Default::Empty, Kind::Bytes | Kind::Records) => shared(PyBytes::new(py, b"").into_any()),
            (Default::Empty, Kind::Uuid) => shared(PyBytes::new(py, &[0; 16]).into_any()),
            (Default::Empty, Kind::Float64) => shared(0.0_f64.into_pyobject(py)?.into_any()),
            (Default::Empty, Kind::Struct(inner)) => Ok(Self::Struct(inner.index)),
            (Default::Empty, _) => shared(0_i32.into_pyobject(py)?.into_any()),
        }
    }
}
