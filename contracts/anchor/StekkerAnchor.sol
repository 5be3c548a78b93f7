// SPDX-License-Identifier: EUPL-1.2
pragma solidity 0.8.37;

import {AccessControlDefaultAdminRules} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// What is known of one log. `size`, `count`, `blockNumber` and `closed` share a slot: a steady anchor writes two.
struct Head {
    uint64 size;
    uint64 count;
    uint64 blockNumber;
    bool closed;
    bytes32 root;
    address owner;
}

/// @title The newest anchored checkpoint of each log, and one event for each anchor (anchoring §2).
/// @notice Only roots stand here: no agreement, statement or receipt, and nothing of anybody. The head slot makes it
/// impossible for a log to anchor two trees; the event is what an offline proof shows. No proxy, no upgrade, no value,
/// no call to other contracts.
contract StekkerAnchor is AccessControlDefaultAdminRules, Pausable {
    event Registered(bytes32 indexed logId, address indexed owner);
    event Anchored(bytes32 indexed logId, uint64 indexed size, bytes32 indexed root, bytes32 previousRoot);
    event Closed(bytes32 indexed logId, uint64 size, bytes32 root);

    error NotOwner();
    error AlreadyRegistered();
    error LogClosed();
    error EmptyRoot();
    error NotMonotone(uint64 have, uint64 got);
    error TooFar(uint64 have, uint64 got);
    error WrongPrevious(bytes32 have, bytes32 got);

    bytes32 public constant REGISTRAR = keccak256("REGISTRAR");
    bytes32 public constant PAUSER = keccak256("PAUSER");

    /// A stolen key must not be able to use up the numbers at once.
    uint64 public constant MAX_STEP = 2 ** 32;

    /// By logId: SHA-256 of the log's origin.
    mapping(bytes32 logId => Head) private _heads;

    /// @param delay Seconds that a change of the admin must wait. @param admin Has all three roles at first.
    constructor(uint48 delay, address admin) AccessControlDefaultAdminRules(delay, admin) {
        _grantRole(REGISTRAR, admin);
        _grantRole(PAUSER, admin);
    }

    /// Gives a log its owner, once and for ever: nobody can move it to another.
    function register(bytes32 logId, address owner) external onlyRole(REGISTRAR) {
        if (owner == address(0)) revert NotOwner(); // an absent owner is what "not registered" looks like
        Head storage its = _heads[logId];
        if (its.owner != address(0)) revert AlreadyRegistered();
        its.owner = owner;
        emit Registered(logId, owner);
    }

    /// Anchors a checkpoint behind exactly the one that the caller believes to be the newest.
    function anchor(bytes32 logId, uint64 size, bytes32 root, bytes32 previousRoot) external whenNotPaused {
        Head storage its = _openHead(logId);
        uint64 have = its.size;
        if (root == bytes32(0)) revert EmptyRoot();
        if (size <= have) revert NotMonotone(have, size);
        if (size - have > MAX_STEP) revert TooFar(have, size);
        if (previousRoot != its.root) revert WrongPrevious(its.root, previousRoot);
        its.size = size;
        its.count += 1;
        its.blockNumber = uint64(block.number);
        its.root = root;
        emit Anchored(logId, size, root, previousRoot);
    }

    /// Ends a log for ever; a new shard is a new logId.
    function close(bytes32 logId) external {
        Head storage its = _openHead(logId);
        its.closed = true;
        emit Closed(logId, its.size, its.root);
    }

    function head(bytes32 logId) external view returns (Head memory) {
        return _heads[logId];
    }

    function pause() external onlyRole(PAUSER) {
        _pause();
    }

    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /// The head of a log that the caller owns and that is not closed.
    function _openHead(bytes32 logId) private view returns (Head storage its) {
        its = _heads[logId];
        if (its.owner != msg.sender) revert NotOwner();
        if (its.closed) revert LogClosed();
    }
}
