internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// A firmware image that a client named, opened on its behalf, or opened by itself.
///
/// Paths are the client's business: `tdxctl` opens the image and sends its descriptor. A path that tdxd opens is opened with no more
/// rights than the client has: by root and tdxd's own user as it is, by others beneath trusted directories alone, where everybody
/// may read. What such a client may not have is answered as what is not there.
enum FirmwareFile {
    /// The largest image; Debian's OVMF has 2 to 4 MiB.
    static let maximumSize = ByteCount.mebibytes(64)

    /// Opens the file for reading.
    ///
    /// It is looked at before it is opened, so that opening a FIFO or a device, which can wait or have effects, never
    /// happens.
    ///
    /// - Parameters:
    ///   - uid: the client's.
    ///   - places: where firmware may lie.
    /// - Throws: `firmwareRejected`, with the reason for who may know it.
    static func open(
        _ path: String, for uid: UInt32, ownUID: UInt32, within places: FirmwarePlaces
    ) throws(ControlError) -> OwnedDescriptor {
        let isTrusted = uid == 0 || uid == ownUID
        let reason: String
        do throws(LinuxError) {
            if let place = try find(path, for: isTrusted ? nil : uid, within: places) {
                let status = try place.status()
                if let flaw = try flaw(of: place, status) {
                    reason = flaw
                } else if !isTrusted, !status.isReadable(by: uid) {
                    reason = "user \(uid) may not read it"
                } else {
                    return try OwnedDescriptor.open(
                        path: "/proc/self/fd/\(place.rawValue)", .readOnly, nonBlocking: true)
                }
            } else {
                reason = places.misplacement
            }
        } catch {
            reason = "\(error.operation): \(error.errno.name) (\(error.errno.description))"
        }
        guard isTrusted else { throw .firmwareRejected(path: path, reason: uniformReason(uid)) }
        throw .firmwareRejected(path: path, reason: reason)
    }

    /// The same for what is not there and for what is not the client's.
    private static func uniformReason(_ uid: UInt32) -> String {
        "user \(uid) has no image of this path that tdxd may open for it; a client opens its image itself and sends the descriptor, "
            + "as tdxctl does"
    }

    /// - Parameter uid: nil for who may have whatever tdxd may.
    private static func find(
        _ path: String, for uid: UInt32?, within places: FirmwarePlaces
    ) throws(LinuxError) -> OwnedDescriptor? {
        if uid == nil, places.isAnywhere { return try OwnedDescriptor.open(path: path, .place) }
        return try places.find(path, for: uid)
    }

    /// Looks at a file that the client has opened: whether it may read it is settled then.
    ///
    /// - Parameters:
    ///   - path: what the client calls it.
    ///   - places: as for `open`. The file must be the one that tdxd itself finds there: a path's text means nothing where the
    ///     client has mounts of its own.
    /// - Throws: `firmwareRejected` with the reason.
    static func check(
        _ image: borrowing OwnedDescriptor, path: String, within places: FirmwarePlaces
    ) throws(ControlError) {
        let reason: String?
        do throws(LinuxError) {
            let isReadable = try image.isReadable()
            let status = try image.status()
            let flaw = try flaw(of: image, status)
            reason =
                try misplacement(of: image, status, places) ?? flaw
                ?? (isReadable ? nil : "it is not open for reading")
        } catch {
            reason = "\(error.operation): \(error.errno.name) (\(error.errno.description))"
        }
        if let reason { throw .firmwareRejected(path: path, reason: reason) }
    }

    /// - Throws: `firmwareRejected` where the kernel does not show it.
    static func size(of image: RetainedDescriptor, path: String) throws(ControlError) -> ByteCount {
        do throws(LinuxError) { return try image.descriptor.status().size } catch {
            throw .firmwareRejected(path: path, reason: "\(error)")
        }
    }

    private static func misplacement(
        of file: borrowing OwnedDescriptor, _ status: FileStatus, _ places: FirmwarePlaces
    ) throws(LinuxError) -> String? {
        guard !places.isAnywhere else { return nil }
        let text = try TextFile.linkTarget("/proc/self/fd/\(file.rawValue)")
        // The client holds the file already: it may know where it lies.
        let found: FileIdentity?
        do throws(LinuxError) { found = try places.find(text, for: nil)?.status().identity } catch { found = nil }
        return found == status.identity ? nil : places.misplacement
    }

    private static func flaw(of file: borrowing OwnedDescriptor, _ status: FileStatus) throws(LinuxError) -> String? {
        guard status.kind == .regular else { return "it is \(name(of: status.kind)), not a regular file" }
        if let kind = PseudoFileSystem(rawValue: try file.fileSystemType()) { return "it is a file of \(kind.words)" }
        guard status.size > .zero else { return "it is empty" }
        guard status.size <= maximumSize else { return "it has \(status.size.rawValue) bytes; at most \(maximumSize)" }
        return nil
    }

    private static func name(of kind: FileStatus.Kind?) -> String {
        switch kind {
        case .regular: "a regular file"
        case .directory: "a directory"
        case .characterDevice, .blockDevice: "a device"
        case .fifo: "a FIFO"
        case .symbolicLink: "a symbolic link"
        case .socket: "a socket"
        case nil: "of an unknown kind"
        }
    }
}

/// File systems whose regular files are none on a disk: reading them has effects, or they are guests' memory. The numbers are those of
/// linux/magic.h.
enum PseudoFileSystem: UInt32, Hashable, Sendable, CaseIterable {
    case proc = 0x9fa0
    case sysfs = 0x6265_6572
    case debugfs = 0x6462_6720
    case tracefs = 0x7472_6163
    case securityfs = 0x7363_6673
    case configfs = 0x6265_6570
    case controlGroups = 0x6367_7270
    case oldControlGroups = 0x0027_e0eb
    case bpf = 0xcafe_4a11
    case efi = 0xde5e_81e4
    case anonymousInodes = 0x0904_1934
    case guestMemory = 0x474d_454d
    case secretMemory = 0x5345_434d

    var words: String {
        switch self {
        case .anonymousInodes, .guestMemory: "guest memory, or another that has no name"
        case .secretMemory: "secret memory"
        default: "the kernel's (\(self))"
        }
    }
}

extension FileStatus {
    /// By its owner's and everybody's bits; what a group may is not counted.
    func isReadable(by uid: UInt32) -> Bool {
        ownerUID == uid ? permissions & 0o400 != 0 : permissions & 0o004 != 0
    }

    /// As `isReadable`: whether a directory may be gone through.
    func isSearchable(by uid: UInt32) -> Bool {
        ownerUID == uid ? permissions & 0o100 != 0 : permissions & 0o001 != 0
    }
}
