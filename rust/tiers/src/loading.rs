//! What a reader's threads do: they fetch lookups and chunks from the store, and verify them before they are cached.

use std::sync::Arc;

use fastlog_log::RealFileSystem;
use fastlog_protocol::crc::crc32c;

use crate::cache::CachedChunk;
use crate::chunks;
use crate::error::TierError;
use crate::indexes::Lookup;
use crate::manifest::Entry;
use crate::reader::Reader;
use crate::upload;

impl Reader {
    pub(crate) fn load(&self, prefix: &str, entry: &Entry, offset: Option<i64>) -> Result<(), TierError> {
        let lookup = self.load_lookup(prefix, entry)?;
        if let Some(number) = offset.and_then(|offset| lookup.chunk_for(offset)) {
            self.load_chunk(prefix, entry, &lookup, number)?;
        }
        Ok(())
    }

    /// What finding something in a segment needs. Blocks.
    pub(crate) fn load_lookup(&self, prefix: &str, entry: &Entry) -> Result<Arc<Lookup>, TierError> {
        if let Some(lookup) = self.cache.lookup(entry.id) {
            return Ok(lookup);
        }
        let [_, key] = upload::keys(prefix, entry.base_offset, entry.id);
        let bytes = self.store.get(&key, 0..u64::from(entry.lookup_bytes))?;
        let corrupt = |reason: &str| TierError::Corrupt { object: key.clone(), reason: reason.to_owned() };
        if bytes.len() != entry.lookup_bytes as usize || crc32c(&bytes) != entry.lookup_crc {
            return Err(corrupt("its checksum is not that of the manifest"));
        }
        let lookup = Lookup::decode(&bytes).filter(|it| is_whole(it, entry));
        let lookup = Arc::new(lookup.ok_or_else(|| corrupt("its chunks do not make up the segment"))?);
        self.cache.put_lookup(entry.id, Arc::clone(&lookup));
        Ok(lookup)
    }

    /// A chunk, verified. Blocks.
    pub(crate) fn load_chunk(
        &self,
        prefix: &str,
        entry: &Entry,
        lookup: &Lookup,
        number: usize,
    ) -> Result<Option<Arc<CachedChunk>>, TierError> {
        if let Some(chunk) = self.cache.chunk(entry.id, number) {
            return Ok(Some(chunk));
        }
        let Some(chunk) = lookup.chunks.get(number) else { return Ok(None) };
        let end = entry.object_next_offset;
        let next_offset = lookup.chunks.get(number + 1).map_or(end, |next| next.base_offset);
        let [key, _] = upload::keys(prefix, entry.base_offset, entry.id);
        let bytes = self.store.get(&key, chunk.range())?;
        let corrupt = |reason| TierError::Corrupt {
            object: key.clone(),
            reason: format!("bytes {:?}: {reason}", chunk.range()),
        };
        let places = chunks::verify(chunk, next_offset, &bytes).map_err(corrupt)?;
        let file = fastlog_sys::memory_file::in_memory("fastlog-chunk", &bytes);
        let file = file.map_err(|error| TierError::local("keep what was read from the store", &error))?;
        let file = RealFileSystem::handle(file);
        let cached = Arc::new(CachedChunk { file, length: bytes.len(), places });
        self.cache.put_chunk(entry.id, number, Arc::clone(&cached));
        Ok(Some(cached))
    }
}

/// Whether the chunks are the bytes of the segment, one after the other.
fn is_whole(lookup: &Lookup, entry: &Entry) -> bool {
    let mut position = 0;
    let each_follows = lookup.chunks.iter().all(|chunk| {
        let follows = chunk.position == position && chunk.length > 0;
        position = chunk.range().end;
        follows
    });
    each_follows && position == entry.log_bytes
}
