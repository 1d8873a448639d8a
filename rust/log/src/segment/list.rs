//! The segments of a log in order: what a reader takes a snapshot of.

use std::sync::Arc;

use super::Segment;

/// Segments by ascending base offset; never empty. Immutable: a change makes a new list.
#[derive(Clone, Debug)]
pub(crate) struct SegmentList(Vec<Arc<Segment>>);

impl SegmentList {
    /// `first` and `rest` must ascend.
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        Self(segments)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<Segment>> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one that starts at `base_offset`.
    pub(crate) fn starting_at(&self, base_offset: i64) -> Option<&Arc<Segment>> {
        self.0
            .binary_search_by_key(&base_offset, |segment| segment.base_offset)
            .ok()
            .and_then(|at| self.0.get(at))
    }

    pub(crate) fn last(&self) -> Option<&Arc<Segment>> {
        self.0.last()
    }

    pub(crate) fn first_base_offset(&self) -> i64 {
        self.0.first().map_or(0, |segment| segment.base_offset)
    }

    /// The segments from the one that holds `offset` on, each with the base offset of the one after it.
    pub(crate) fn holding(&self, offset: i64) -> impl Iterator<Item = (&Arc<Segment>, Option<i64>)> {
        let after = self.0.partition_point(|segment| segment.base_offset <= offset);
        let from = after.saturating_sub(1);
        self.with_next().skip(from)
    }

    /// All segments, each with the base offset of the one after it.
    pub(crate) fn with_next(&self) -> impl Iterator<Item = (&Arc<Segment>, Option<i64>)> {
        let next = self.0.iter().skip(1).map(|segment| Some(segment.base_offset)).chain([None]);
        self.0.iter().zip(next)
    }

    /// With one more at the end.
    pub(crate) fn with(&self, segment: Arc<Segment>) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// Without the first `count`; and those.
    pub(crate) fn without_first(&self, count: usize) -> (Self, Vec<Arc<Segment>>) {
        let mut first = self.0.clone();
        let kept = first.split_off(count.min(first.len()));
        (Self(kept), first)
    }

    /// Whether these very segments are there one after the other, followed by one at `next_base`.
    pub(crate) fn has_run(&self, run: &[Arc<Segment>], next_base: i64) -> bool {
        let Some(first) = run.first() else { return false };
        let mut from = self.0.iter().skip_while(|segment| segment.base_offset < first.base_offset);
        let are_there = run.iter().all(|wanted| from.next().is_some_and(|found| Arc::ptr_eq(found, wanted)));
        are_there && from.next().is_some_and(|next| next.base_offset == next_base)
    }

    /// With `copy` in the place of `originals`, which are there one after the other.
    pub(crate) fn with_copy(&self, originals: &[Arc<Segment>], copy: &Arc<Segment>) -> Self {
        let is_original = |segment: &Arc<Segment>| originals.iter().any(|it| Arc::ptr_eq(it, segment));
        let mut segments: Vec<_> = self.0.iter().filter(|segment| !is_original(segment)).cloned().collect();
        let place = segments.partition_point(|segment| segment.base_offset < copy.base_offset);
        segments.insert(place, Arc::clone(copy));
        Self(segments)
    }

    /// Split in two: those with a base offset below `offset`, and the others.
    pub(crate) fn split_at_offset(&self, offset: i64) -> (Vec<Arc<Segment>>, Vec<Arc<Segment>>) {
        let below = self.0.partition_point(|segment| segment.base_offset < offset);
        let (kept, others) = self.0.split_at(below);
        (kept.to_vec(), others.to_vec())
    }
}
