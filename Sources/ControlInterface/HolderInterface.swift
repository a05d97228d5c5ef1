/// What happens when a TD's holder is killed.
public enum LastWillState: String, Codable, Hashable, Sendable, CaseIterable {
    /// The TD is terminated all the same, by a second process that shares the holder's memory.
    case armed
    /// As `armed`, but on the VM under an emulated TD, with a call that changes nothing.
    case rehearsal
}

/// The methods of `io.tdxd.Holder`: their names, parameters and replies. Sizes and addresses in bytes.
public enum HolderInterface {
    /// Where a holder is in its one TD's life.
    public enum State: String, Codable, Hashable, Sendable, CaseIterable {
        case empty, building, runnable, stopping, halted, released, failed
    }

    /// One TD as its own process sees it.
    public struct Description: Codable, Hashable, Sendable {
        public var name: String
        public var id: String
        public var state: State
        public var reason: String?
        public var backend: Backend
        public var emulated: Bool
        public var memoryBytes: UInt64
        public var privateBytes: UInt64
        public var sharedBytes: UInt64
        public var convertingBytes: UInt64
        /// Nil where the kernel cannot count what is resident.
        public var residentPrivateBytes: UInt64?
        public var residentSharedBytes: UInt64?
        public var vcpus: Int
        public var keyID: UInt16?
        public var pid: Int32
        public var mrtd: String?
        public var firmware: String?
        public var createdAt: String
        public var ownerUID: UInt32
        /// How far the end has come, while it lasts.
        public var ending: Progress?
        /// Nil where no NUMA policy was asked for.
        public var numa: NUMAPlacement?
        /// What happens when the holder is killed; nil for nothing.
        public var lastWill: LastWillState?

        public init(
            name: String, id: String, state: State, reason: String?, backend: Backend, memoryBytes: UInt64,
            privateBytes: UInt64, sharedBytes: UInt64, convertingBytes: UInt64, residentPrivateBytes: UInt64?,
            residentSharedBytes: UInt64?, vcpus: Int, keyID: UInt16?, pid: Int32, mrtd: String?, firmware: String?,
            createdAt: String, ownerUID: UInt32, ending: Progress? = nil,
            numa: NUMAPlacement? = nil, lastWill: LastWillState? = nil
        ) {
            self.name = name
            self.id = id
            self.state = state
            self.reason = reason
            self.backend = backend
            self.emulated = backend.isEmulated
            self.memoryBytes = memoryBytes
            self.privateBytes = privateBytes
            self.sharedBytes = sharedBytes
            self.convertingBytes = convertingBytes
            self.residentPrivateBytes = residentPrivateBytes
            self.residentSharedBytes = residentSharedBytes
            self.vcpus = vcpus
            self.keyID = keyID
            self.pid = pid
            self.mrtd = mrtd
            self.firmware = firmware
            self.createdAt = createdAt
            self.ownerUID = ownerUID
            self.ending = ending
            self.numa = numa
            self.lastWill = lastWill
        }

        enum CodingKeys: String, CodingKey {
            case name, id, state, reason, backend, emulated
            case memoryBytes = "memory_bytes"
            case privateBytes = "private_bytes"
            case sharedBytes = "shared_bytes"
            case convertingBytes = "converting_bytes"
            case residentPrivateBytes = "resident_private_bytes"
            case residentSharedBytes = "resident_shared_bytes"
            case vcpus
            case keyID = "key_id"
            case pid, mrtd, firmware
            case createdAt = "created_at"
            case ownerUID = "owner_uid"
            case ending, numa
            case lastWill = "last_will"
        }
    }

    /// A file behind a part of guest memory; its descriptor comes with the reply at the same place in the order.
    public struct BackingFile: Codable, Hashable, Sendable {
        public var kind: MemorySide
        public var gpa: UInt64
        public var bytes: UInt64
        public var inode: UInt64

        public init(kind: MemorySide, gpa: UInt64, bytes: UInt64, inode: UInt64) {
            self.kind = kind
            self.gpa = gpa
            self.bytes = bytes
            self.inode = inode
        }
    }

    public enum Build {
        public static let method = InterfaceName.holder + ".Build"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            public var id: String
            public var memoryBytes: UInt64
            public var vcpus: Int
            /// The image's path for the record; the open image is the call's only descriptor.
            public var firmware: String?
            public var mrconfigid: String?
            public var mrowner: String?
            public var mrownerconfig: String?
            /// The emulated key id that was reserved; ignored on backend tdx.
            public var keyID: UInt16
            public var ownerUID: UInt32
            /// All private memory is allocated before the TD is there.
            public var preallocate: Bool?
            /// When conversions count as a storm; nil for 10,000 in a second.
            public var storm: ConversionStormRule?
            public var numa: NUMAPolicy?
            /// All private memory is mapped into its page table before the TD is there.
            public var prefault: Bool?
            /// The host's settings; nil for the holder's own.
            public var settings: HolderSettings?

            public init(
                name: String, id: String, memoryBytes: UInt64, vcpus: Int, firmware: String? = nil,
                mrconfigid: String? = nil, mrowner: String? = nil, mrownerconfig: String? = nil, keyID: UInt16,
                ownerUID: UInt32, preallocate: Bool? = nil, storm: ConversionStormRule? = nil,
                numa: NUMAPolicy? = nil, prefault: Bool? = nil, settings: HolderSettings? = nil
            ) {
                self.name = name
                self.id = id
                self.memoryBytes = memoryBytes
                self.vcpus = vcpus
                self.firmware = firmware
                self.mrconfigid = mrconfigid
                self.mrowner = mrowner
                self.mrownerconfig = mrownerconfig
                self.keyID = keyID
                self.ownerUID = ownerUID
                self.preallocate = preallocate
                self.storm = storm
                self.numa = numa
                self.prefault = prefault
                self.settings = settings
            }

            enum CodingKeys: String, CodingKey {
                case name, id
                case memoryBytes = "memory_bytes"
                case vcpus, firmware, mrconfigid, mrowner, mrownerconfig
                case keyID = "key_id"
                case ownerUID = "owner_uid"
                case preallocate, storm, numa, prefault, settings
            }
        }

        /// Progress while it lasts; the description in the last reply.
        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var description: Description?

            public init(progress: Progress) { self.progress = progress }
            public init(description: Description) { self.description = description }
        }
    }

    public enum Describe {
        public static let method = InterfaceName.holder + ".Describe"

        public struct Reply: Codable, Hashable, Sendable {
            public var description: Description
            public init(description: Description) { self.description = description }
        }
    }

    public enum Convert {
        public static let method = InterfaceName.holder + ".Convert"
        /// What is converted in one piece: no progress comes and nobody can end it meanwhile.
        public static let chunkBytes: UInt64 = 64 << 20

        public struct Parameters: Codable, Hashable, Sendable {
            public var gpa: UInt64
            public var bytes: UInt64
            public var to: MemorySide

            public init(gpa: UInt64, bytes: UInt64, to: MemorySide) {
                self.gpa = gpa
                self.bytes = bytes
                self.to = to
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var changedBytes: UInt64
            public var discardedBytes: UInt64
            public var milliseconds: Double
            /// In every reply but the last, whose figures are those so far.
            public var progress: Progress?

            public init(
                changedBytes: UInt64, discardedBytes: UInt64, milliseconds: Double, progress: Progress? = nil
            ) {
                self.changedBytes = changedBytes
                self.discardedBytes = discardedBytes
                self.milliseconds = milliseconds
                self.progress = progress
            }

            enum CodingKeys: String, CodingKey {
                case changedBytes = "changed_bytes"
                case discardedBytes = "discarded_bytes"
                case milliseconds, progress
            }
        }
    }

    public enum Map {
        public static let method = InterfaceName.holder + ".Map"

        public struct Reply: Codable, Hashable, Sendable {
            public var runs: [MemoryRun]
            public init(runs: [MemoryRun]) { self.runs = runs }
        }
    }

    public enum GetBacking {
        public static let method = InterfaceName.holder + ".GetBacking"

        public struct Reply: Codable, Hashable, Sendable {
            public var files: [BackingFile]
            public init(files: [BackingFile]) { self.files = files }
        }
    }

    public enum GetFigures {
        public static let method = InterfaceName.holder + ".GetFigures"
    }

    public enum Stop {
        public static let method = InterfaceName.holder + ".Stop"

        public struct Parameters: Codable, Hashable, Sendable {
            /// A `StopPolicy`; nil for `auto`.
            public var policy: String?
            /// The memory is kept until `Reclaim`.
            public var hold: Bool?

            public init(policy: String? = nil, hold: Bool? = nil) {
                self.policy = policy
                self.hold = hold
            }
        }

        /// Progress while it lasts; everything else in the last reply, after which the process exits.
        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var phases: [TeardownPhase]?
            /// The holder's own part of the proofs.
            public var proofs: [TeardownProof]?
            public var path: EndPath?
            public var releasedBytes: UInt64?
            /// All that went wrong, by kind; nil from a holder that does not name kinds.
            public var failures: [EndFailure]?
            /// The same in words; nil when nothing did.
            public var failure: String?
            /// What the TDX module answered to what failed, in hexadecimal; nil where it is not known.
            public var tdxStatus: String?
            /// A page could not be taken from the TD: what is left of its memory stays with the process, which goes on until
            /// SIGTERM.
            public var withheld: Bool?

            public init(progress: Progress) { self.progress = progress }
            public init(
                phases: [TeardownPhase], proofs: [TeardownProof], path: EndPath, releasedBytes: UInt64,
                failures: [EndFailure], withheld: Bool? = nil
            ) {
                self.phases = phases
                self.proofs = proofs
                self.path = path
                self.releasedBytes = releasedBytes
                self.failures = failures
                failure = failures.words
                tdxStatus = failures.status
                self.withheld = withheld
            }

            enum CodingKeys: String, CodingKey {
                case progress, phases, proofs, path
                case releasedBytes = "released_bytes"
                case failures, failure
                case tdxStatus = "tdx_status"
                case withheld
            }
        }
    }
}
