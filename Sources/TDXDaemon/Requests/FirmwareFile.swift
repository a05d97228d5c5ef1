internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// A firmware image that a client named, opened on its behalf, or opened by itself.
enum FirmwareFile {
    /// The largest image; Debian's OVMF has 2 to 4 MiB.
    static let maximumSize = ByteCount.mebibytes(64)

    /// Opens the file for reading.
    ///
    /// It is looked at before it is opened, so that opening a FIFO or a device, which can wait or have effects, never
    /// happens. A link is followed: what it leads to is what is looked at.
    ///
    /// - Parameter uid: the client's; for another user than root and tdxd's own, the file must be readable by everybody
    ///   or belong to that user, so that tdxd's rights are not lent out.
    /// - Parameter directories: where firmware may lie, links followed; nil for anywhere.
    /// - Throws: `firmwareRejected` with the reason.
    static func open(
        _ path: String, for uid: UInt32, ownUID: UInt32, within directories: [String]? = nil
    ) throws(ControlError) -> OwnedDescriptor {
        let reason: String
        do throws(LinuxError) {
            let place = try OwnedDescriptor.open(path: path, .place)
            let status = try place.status()
            if let flaw = try misplacement(of: place, directories) ?? flaw(of: status, uid: uid, ownUID: ownUID) {
                reason = flaw
            } else {
                return try OwnedDescriptor.open(
                    path: "/proc/self/fd/\(place.rawValue)", .readOnly, nonBlocking: true)
            }
        } catch {
            reason = "\(error.operation): \(error.errno.name) (\(error.errno.description))"
        }
        throw .firmwareRejected(path: path, reason: reason)
    }

    /// Looks at a file that the client has opened: whether it may read it is settled then.
    ///
    /// - Parameters:
    ///   - path: what the client calls it.
    ///   - directories: as for `open`.
    /// - Throws: `firmwareRejected` with the reason.
    static func check(
        _ image: borrowing OwnedDescriptor, path: String, within directories: [String]? = nil
    ) throws(ControlError) {
        let reason: String?
        do throws(LinuxError) {
            let isReadable = try image.isReadable()
            let flaw = flaw(of: try image.status())
            reason =
                try misplacement(of: image, directories) ?? flaw ?? (isReadable ? nil : "it is not open for reading")
        } catch {
            reason = "\(error.operation): \(error.errno.name) (\(error.errno.description))"
        }
        if let reason { throw .firmwareRejected(path: path, reason: reason) }
    }

    /// - Throws: `firmwareRejected` where the kernel does not tell.
    static func size(of image: RetainedDescriptor, path: String) throws(ControlError) -> ByteCount {
        do throws(LinuxError) { return try image.descriptor.status().size } catch {
            throw .firmwareRejected(path: path, reason: "\(error)")
        }
    }

    private static func misplacement(
        of file: borrowing OwnedDescriptor, _ directories: [String]?
    ) throws(LinuxError) -> String? {
        guard let directories else { return nil }
        let real = try TextFile.linkTarget("/proc/self/fd/\(file.rawValue)")
        guard !directories.contains(where: { real.hasPrefix($0 + "/") }) else { return nil }
        return "it lies in none of firmware_directories (\(directories.joined(separator: ", ")))"
    }

    private static func flaw(of status: FileStatus) -> String? {
        guard status.kind == .regular else { return "it is \(name(of: status.kind)), not a regular file" }
        guard status.size > .zero else { return "it is empty" }
        guard status.size <= maximumSize else { return "it has \(status.size.rawValue) bytes; at most \(maximumSize)" }
        return nil
    }

    static func flaw(of status: FileStatus, uid: UInt32, ownUID: UInt32) -> String? {
        if let flaw = flaw(of: status) { return flaw }
        let mayRead = uid == 0 || uid == ownUID || status.permissions & 0o004 != 0
        guard mayRead || (status.ownerUID == uid && status.permissions & 0o400 != 0) else {
            return "user \(uid) may not read it"
        }
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
