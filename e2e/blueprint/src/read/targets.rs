//! Reads the `targets` of a blueprint.

use super::{
    super::{
        draft::{At, DraftTargets},
        keys::{AKS_KEYS, EKS_KEYS, GENERIC_KEYS, GKE_KEYS, TARGET_KEYS},
        targets::{AksAddress, EksAddress, GenericAddress, GkeAddress},
    },
    Field, Fields, Reader, label,
};
use crate::tree::Node;

impl Reader<'_> {
    pub(super) fn targets(&mut self, field: Option<Field>) -> DraftTargets {
        let Some(field) = field else {
            return DraftTargets::default();
        };
        let Some(mut fields) = self.fields(&field.called, TARGET_KEYS, field.node) else {
            return DraftTargets::default();
        };
        DraftTargets {
            gke: self.list(fields.take("gke"), Reader::gke),
            eks: self.list(fields.take("eks"), Reader::eks),
            aks: self.list(fields.take("aks"), Reader::aks),
            generic: self.list(fields.take("generic"), Reader::generic),
        }
    }

    fn gke(&mut self, item: Node) -> Option<At<GkeAddress>> {
        let mut fields = self.fields(&label("address of", "pod", &item), GKE_KEYS, item)?;
        let value = GkeAddress {
            pod: self.text(fields.take("pod"))?.value,
            name: self.words(&mut fields, "name"),
            address: self.words(&mut fields, "address"),
            internal: self.flag(&mut fields, "internal"),
            subnet: self.words(&mut fields, "subnet"),
            region: self.words(&mut fields, "region"),
        };
        Some(At {
            line: fields.line,
            value,
        })
    }

    fn eks(&mut self, item: Node) -> Option<At<EksAddress>> {
        let mut fields = self.fields(&label("address of", "pod", &item), EKS_KEYS, item)?;
        let allocations = self.texts(
            fields.take("allocations"),
            "an allocation",
            "eipalloc-0123456789abcdef0",
        );
        let subnets = self.texts(
            fields.take("subnets"),
            "a subnet",
            "subnet-0123456789abcdef0",
        );
        let values = |items: Vec<At<String>>| items.into_iter().map(|item| item.value).collect();
        let value = EksAddress {
            pod: self.text(fields.take("pod"))?.value,
            allocations: values(allocations.items),
            subnets: values(subnets.items),
            target_group: self.words(&mut fields, "target-group"),
            address: self.words(&mut fields, "address"),
            region: self.words(&mut fields, "region"),
        };
        Some(At {
            line: fields.line,
            value,
        })
    }

    fn aks(&mut self, item: Node) -> Option<At<AksAddress>> {
        let mut fields = self.fields(&label("address of", "pod", &item), AKS_KEYS, item)?;
        let value = AksAddress {
            pod: self.text(fields.take("pod"))?.value,
            name: self.words(&mut fields, "name"),
            resource_group: self.words(&mut fields, "resource-group"),
            address: self.words(&mut fields, "address"),
            internal: self.flag(&mut fields, "internal"),
            subnet: self.words(&mut fields, "subnet"),
        };
        Some(At {
            line: fields.line,
            value,
        })
    }

    fn generic(&mut self, item: Node) -> Option<At<GenericAddress>> {
        let mut fields = self.fields(&label("address of", "pod", &item), GENERIC_KEYS, item)?;
        let value = GenericAddress {
            pod: self.text(fields.take("pod"))?.value,
            address: self.text(fields.take("address"))?.value,
            class: self.words(&mut fields, "class"),
            metallb: self.flag(&mut fields, "metallb"),
        };
        Some(At {
            line: fields.line,
            value,
        })
    }

    fn words(&mut self, fields: &mut Fields, key: &str) -> Option<String> {
        self.text(fields.take(key)).map(|text| text.value)
    }

    fn flag(&mut self, fields: &mut Fields, key: &str) -> bool {
        self.truth(fields.take(key)).is_some_and(|flag| flag.value)
    }
}
