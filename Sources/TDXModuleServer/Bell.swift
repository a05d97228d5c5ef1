internal import Glibc
internal import LinuxSystem
internal import Synchronization
internal import SystemPackage

/// The reading end of the machine's doorbell, a FIFO: a line at the start, then a byte for each call, the number of the
/// processor that asks. Any number of threads may wait at once; each byte wakes one.
final class Bell: Sendable {
    private let file: RetainedDescriptor

    /// Waits until the machine opens its end.
    init(opening path: String) throws(LinuxError) {
        file = RetainedDescriptor(try OwnedDescriptor.open(path: path, .readOnly))
    }

    /// The next byte; nil when the machine has ended.
    func next() -> Int? {
        var byte: UInt8 = 0
        while true {
            let count = Glibc.read(file.descriptor.rawValue, &byte, 1)
            if count == 1 { return Int(byte) }
            guard count < 0, Glibc.errno == EINTR else { return nil }
        }
    }

    /// A line without its end; nil when the machine has ended.
    func line() throws(ServerError) -> String? {
        var bytes: [UInt8] = []
        while let byte = next() {
            if byte == 10 { return String(decoding: bytes, as: UTF8.self) }
            guard bytes.count < Announcement.maximumLength else {
                throw ServerError("the announcement exceeds \(Announcement.maximumLength) bytes")
            }
            bytes.append(UInt8(byte))
        }
        return nil
    }
}
