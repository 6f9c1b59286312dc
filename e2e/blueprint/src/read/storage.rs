//! The `storage` of a pod.

use super::{
    super::{
        draft::{At, DraftStorage},
        keys::STORAGE_KEYS,
    },
    Field, Reader,
};

impl Reader<'_> {
    pub(super) fn storage(&mut self, field: Option<Field>) -> Option<At<DraftStorage>> {
        let field = field?;
        let mut fields = self.fields(&field.called, STORAGE_KEYS, field.node)?;
        Some(At {
            line: fields.line,
            value: DraftStorage {
                size: self.text(fields.take("size")),
                class: self.text(fields.take("class")),
                ephemeral: self.truth(fields.take("ephemeral")),
            },
        })
    }
}
