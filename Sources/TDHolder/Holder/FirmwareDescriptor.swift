internal import FirmwareImage
internal import LinuxSystem
internal import MemoryUnits

/// A file that is not a firmware image.
struct FirmwareRefused: Error, Hashable, Sendable {
    /// Where it came from, by the client.
    var path: String
    var reason: String
}

/// Reads firmware from a descriptor that another process opened. Only a regular file is read: a FIFO or device could keep
/// the reader for ever.
enum FirmwareDescriptor {
    /// - Throws: for anything but a regular file of 1 byte to `TDVFImage.maximumSize`, and for one that cannot be read.
    static func read(
        _ descriptor: borrowing OwnedDescriptor, path: String
    ) throws(FirmwareRefused) -> [UInt8] {
        func refuse(_ reason: String) -> FirmwareRefused { FirmwareRefused(path: path, reason: reason) }
        let status = try attempt(path) { () throws(LinuxError) in try descriptor.status() }
        guard status.kind == .regular else { throw refuse("it is \(describe(status.kind)), not a regular file") }
        let limit = TDVFImage.maximumSize
        guard status.size > .zero, status.size <= limit else {
            throw refuse("it has \(status.size.rawValue) bytes; an image has 1 to \(limit.rawValue)")
        }
        let count = Int(status.size.rawValue)
        let bytes = try attempt(path) { () throws(LinuxError) in try descriptor.read(count: count, at: .zero) }
        guard bytes.count == count else {
            throw refuse("it shrank from \(count) to \(bytes.count) bytes while it was read")
        }
        return bytes
    }

    private static func attempt<Result>(
        _ path: String, _ body: () throws(LinuxError) -> Result
    ) throws(FirmwareRefused) -> Result {
        do { return try body() } catch { throw FirmwareRefused(path: path, reason: "\(error)") }
    }

    private static func describe(_ kind: FileStatus.Kind?) -> String {
        switch kind {
        case .regular: "a regular file"
        case .directory: "a directory"
        case .fifo: "a FIFO"
        case .characterDevice, .blockDevice: "a device"
        case .symbolicLink: "a symbolic link"
        case .socket: "a socket"
        case nil: "of a type that is not known"
        }
    }
}
