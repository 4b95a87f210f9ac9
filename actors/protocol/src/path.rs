//! Being written.
use serde::Serialize;
/// A path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RelativePath(String);
/// Fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?} {component:?}")]
#[allow(missing_docs)]
pub struct PathFault { pub rule: PathRule, pub component: String }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PathRule { Absolute }
#[allow(missing_docs)]
impl PathFault { pub fn reason(&self) -> crate::reason::Reason { todo!() } }
#[allow(missing_docs)]
impl RelativePath {
    pub fn parse(_text: &str) -> Result<Self, PathFault> { todo!() }
    pub fn as_str(&self) -> &str { &self.0 }
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> { self.0.split('/') }
    pub fn parent(&self) -> Option<RelativePath> { todo!() }
    pub fn file_name(&self) -> &str { todo!() }
    pub fn is_beneath(&self, _first_component_folded: &str) -> bool { todo!() }
    pub fn fold(&self) -> String { todo!() }
}
impl std::fmt::Display for RelativePath { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.0) } }
