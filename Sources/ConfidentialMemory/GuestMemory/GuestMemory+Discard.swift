internal import KVM
internal import LinuxSystem
public import MemoryUnits
internal import Synchronization
internal import SystemPackage

extension GuestMemory {
    /// Gives the contents of a range back to the host and leaves its pages on the sides that they are on: their next use
    /// finds zeroes. Waits for a conversion under way.
    /// - Returns: bytes that were resident, on both sides together; 0 where the kernel cannot count them.
    @discardableResult
    public func discard(_ range: GuestPhysicalRange) throws(GuestMemoryError) -> ByteCount {
        let parts = try validParts(range)
        return try conversionLock.withLock { _ throws(GuestMemoryError) in
            var discarded = ByteCount.zero
            for (shard, part) in parts {
                let place = shard.fileRange(part)
                // Punching pages that are mapped costs three times as much as dropping the mappings first.
                shard.mapping.dropMappings(offset: place.offset, length: place.length)
                for file in [shard.file, shard.sharedFile].compactMap(\.self) {
                    do throws(KVMError) {
                        discarded += try file.countedBytes(place) ?? .zero
                        try file.punchHole(place)
                    } catch {
                        throw .refused(error)
                    }
                }
            }
            return discarded
        }
    }
}

extension KVMGuestMemory {
    /// As `residentBytes`; nil on a kernel without cachestat(2), which can be built without it. Work that only reports
    /// the count goes on then; what has to prove it cannot.
    func countedBytes(_ range: FileRange) throws(KVMError) -> ByteCount? {
        do {
            return try residentBytes(range)
        } catch {
            guard error.errno == .noFunction else { throw error }
            return nil
        }
    }
}
