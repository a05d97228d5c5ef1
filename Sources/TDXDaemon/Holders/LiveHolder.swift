internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// One TD's holder as long as anything of it may be left: its process, its socket, and tdxd's duplicates.
final class LiveHolder: Sendable {
    private struct State {
        var backing: Backing?
        var pages: FigureReader?
        var silentUntil: MonotonicInstant?
        /// Files of ranges that are being read, until they are closed; nil when none may be read any more.
        var rangeFiles: [WeakFile]? = []
    }

    private struct WeakFile: @unchecked Sendable {
        // Sendable is sound: it is read and written under the lock alone.
        weak var file: SealedFile?
    }

    /// The TD's id.
    let id: String
    let directory: String
    let link: HolderLink
    /// Nil when the process was gone before tdxd could hold it.
    let process: HolderProcess?
    private let state = Mutex(State())
    /// Held while the TD's record is written.
    let recordWriting = Mutex<Void>(())

    /// - Parameter link: nil for the socket in its directory.
    init(_ record: DomainRecord, directory: String, process: HolderProcess?, link: HolderLink? = nil) {
        id = record.id
        self.directory = directory
        self.process = process
        self.link = link ?? HolderLink(record, .path(Places.socket(inHolder: directory)))
    }

    /// Its socket is there. A holder that ends in order removes it.
    var hasSocket: Bool {
        (try? FileStatus(ofPath: Places.socket(inHolder: directory), followingLinks: false)) != nil
    }

    var backing: Backing? {
        get { state.withLock { $0.backing } }
        set { state.withLock { $0.backing = newValue } }
    }

    /// Pages by state as they are now, also of a holder that does not answer; nil where the holder has not given them.
    var pages: FigureReader? {
        get { state.withLock { $0.pages } }
        set { state.withLock { $0.pages = newValue } }
    }

    /// Pages by state as they are published at this moment; nil where they are not, or cannot be the TD's.
    var publishedPages: SIMD4<UInt64>? { link.checked(pages?.read()) }

    /// The TD's private ranges at this moment.
    /// - Parameter memory: of the TD, in bytes.
    func privateRanges(memory: UInt64, timeout: Duration) throws(ControlError) -> PrivateRangeFile {
        let (sequence, file) = try link.privateRanges(timeout: timeout)
        let isWelcome = state.withLock { state in
            state.rangeFiles?.removeAll { $0.file == nil }
            state.rangeFiles?.append(WeakFile(file: file))
            return state.rangeFiles != nil
        }
        guard isWelcome else { throw .holderFailed(name: link.name, reason: "the TD has ended meanwhile") }
        do throws(PrivateRangeFlaw) { return try PrivateRangeFile(file, sequence: sequence, memory: memory) } catch {
            throw .holderFailed(name: link.name, reason: "its ranges make no sense: \(error)")
        }
    }

    /// Ranges of the TD are not read any more. Their files are memory that is charged to it, whose end would wait for the
    /// slowest reader otherwise.
    func closeRanges() {
        let files = state.withLock { state in
            defer { state.rangeFiles = nil }
            return state.rangeFiles ?? []
        }
        for file in files { file.file?.close() }
    }

    /// How long a holder that did not answer is not asked again for its figures.
    static let silencePause = Duration.seconds(2)

    /// The holder's figures; a holder that did not answer just now is not asked again so soon, so that a stuck one
    /// does not make every client wait.
    func figures(timeout: Duration) throws(ControlError) -> HolderInterface.Description {
        if state.withLock({ ($0.silentUntil ?? .init(nanoseconds: 0)) > .now }) {
            throw .holderFailed(name: link.name, reason: "it did not answer just now")
        }
        do throws(ControlError) {
            let description = try link.describe(timeout: timeout)
            state.withLock { $0.silentUntil = nil }
            return description
        } catch {
            state.withLock { $0.silentUntil = .now + Self.silencePause }
            throw error
        }
    }
}

extension TrustDomain {
    /// A holder's report of its TD, as clients see it.
    init(_ description: HolderInterface.Description, record: DomainRecord) {
        let state: TrustDomainState =
            switch description.state {
            case .empty, .building: .building
            case .runnable: .runnable
            case .stopping, .released: .stopping
            case .halted: .draining
            case .failed: .failed
            }
        self.init(
            name: record.name, id: record.id, state: state, reason: description.reason, backend: description.backend,
            memoryBytes: record.memoryBytes, privateBytes: description.privateBytes,
            sharedBytes: description.sharedBytes, convertingBytes: description.convertingBytes,
            residentPrivateBytes: description.residentPrivateBytes,
            residentSharedBytes: description.residentSharedBytes, vcpus: record.vcpus, keyID: description.keyID,
            holderPID: description.pid, mrtd: description.mrtd, firmware: record.firmware,
            createdAt: record.createdAt, ownerUID: record.ownerUID, numa: description.numa,
            lastWill: description.lastWill, kind: record.kind ?? .held)
    }
}

extension TrustDomain {
    /// With its pages by state: shared, private, converting to private, converting to shared.
    func with(_ counts: SIMD4<UInt64>) -> TrustDomain {
        var domain = self
        domain.sharedBytes = counts[0].multipliedSaturated(by: pageSize)
        domain.privateBytes = counts[1].multipliedSaturated(by: pageSize)
        domain.convertingBytes = counts[2].addingSaturated(counts[3]).multipliedSaturated(by: pageSize)
        return domain
    }
}
