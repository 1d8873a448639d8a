use super::*;
use crate::api_key;

#[test]
fn the_table_agrees_with_the_keys() {
    assert_eq!(APIS.len(), api_key::ALL.len());
    for (row, key) in APIS.iter().zip(api_key::ALL) {
        assert_eq!((row.key, Some(row.name)), (key, api_key::name(key)));
        assert_eq!(Some((row.versions.low, row.versions.high)), api_key::versions(key));
        for version in 0..=20 {
            assert_eq!(row.is_flexible(version), api_key::is_flexible(key, version));
        }
        assert!(core::ptr::eq(api(key).unwrap(), *row));
    }
    assert!(api(4).is_none());
}

#[test]
fn each_struct_lies_at_its_index() {
    for row in APIS {
        for (index, item) in row.structs.iter().enumerate() {
            assert_eq!(item.index, index, "{} of {}", item.name, row.name);
        }
        assert!(core::ptr::eq(row.structs[row.response.index], row.response));
    }
}
