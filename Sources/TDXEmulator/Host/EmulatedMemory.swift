internal import Glibc
internal import MemoryUnits
internal import TDXModule

/// The bytes behind the emulated host's frames, as the software module reaches them. A private page's bytes are those of
/// the real guest memory file, in the clear: key ids select nothing here, and a read with the wrong key is not scrambled.
struct EmulatedMemory: PhysicalMemory {
    let frames: HostFrames

    func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        frames.withPage(of: address, count: buffer.count, writes: false) { page in
            buffer.copyMemory(from: UnsafeRawBufferPointer(page))
        }
    }

    func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {
        frames.withPage(of: address, count: buffer.count, writes: true) { page in page.copyMemory(from: buffer) }
    }

    func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {
        frames.withPage(of: page, count: Int(pageSize), writes: true) { page in
            _ = memset(page.baseAddress!, 0, page.count)
        }
    }

    func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {
        frames.withPage(of: source, count: Int(pageSize), writes: false) { source in
            write(destination, key: key, from: UnsafeRawBufferPointer(source))
        }
    }
}
