internal import LinuxSystem
internal import SystemPackage

/// The directories that firmware may lie in, opened when tdxd starts: what is beneath them is found from there, whatever is mounted or
/// linked elsewhere by then.
struct FirmwarePlaces: Sendable {
    private struct Directory: Sendable {
        var path: String
        var descriptor: RetainedDescriptor
    }

    /// Where images of packages lie, for users who name a path where `firmware_directories` is `any`.
    static let standard = ["/usr/share"]

    private let directories: [Directory]
    /// The administrator named no directory.
    let isAnywhere: Bool
    /// Directories that could not be opened; nothing is found beneath them.
    let missing: [String]
    private let names: [String]

    /// Opens the directories.
    /// - Parameter configured: nil for anywhere.
    init(_ configured: [String]?) {
        isAnywhere = configured == nil
        names = configured ?? Self.standard
        var opened: [Directory] = []
        var missing: [String] = []
        for path in names {
            guard let descriptor = try? OwnedDescriptor.open(path: path, .place),
                (try? descriptor.status())?.kind == .directory
            else {
                missing.append(path)
                continue
            }
            opened.append(Directory(path: path, descriptor: RetainedDescriptor(descriptor)))
        }
        directories = opened
        self.missing = missing
    }

    /// Why a file elsewhere is none.
    var misplacement: String { "it lies in none of firmware_directories (\(names.joined(separator: ", ")))" }

    /// Finds what a path names beneath one of the directories. No link is followed, and nothing leads out.
    ///
    /// - Parameters:
    ///   - path: absolute, without `.` and `..`.
    ///   - uid: who must be able to search every directory on the way beneath those of this list; nil for who may all.
    /// - Returns: nil for a path that is beneath none of them.
    /// - Throws: as openat2(2); EACCES for a directory that `uid` may not search.
    func find(_ path: String, for uid: UInt32?) throws(LinuxError) -> OwnedDescriptor? {
        for directory in directories {
            guard let steps = Self.steps(of: path, below: directory.path) else { continue }
            return try walk(steps, from: directory.descriptor, path, uid)
        }
        return nil
    }

    /// The names on the way, at least one; nil where the path is not below the directory.
    static func steps(of path: String, below directory: String) -> [String]? {
        func split(_ path: String) -> [Substring] { path.split(separator: "/", omittingEmptySubsequences: true) }
        let all = split(path)
        let above = split(directory)
        guard path.utf8.first == UInt8(ascii: "/"), all.count > above.count, all.starts(with: above) else { return nil }
        let steps = all.dropFirst(above.count)
        guard !steps.contains("."), !steps.contains("..") else { return nil }
        return steps.map { String($0) }
    }

    private func walk(
        _ steps: [String], from directory: RetainedDescriptor, _ path: String, _ uid: UInt32?
    ) throws(LinuxError) -> OwnedDescriptor {
        var place = try directory.descriptor.openBeneath(steps[0])
        for step in steps.dropFirst() {
            let status = try place.status()
            guard status.kind == .directory else { throw LinuxError("openat2", .notDirectory, detail: path) }
            if let uid, !status.isSearchable(by: uid) {
                throw LinuxError("openat2", .permissionDenied, detail: path)
            }
            place = try place.openBeneath(step)
        }
        return place
    }
}
