//! What must stay true of the tree itself: who may depend on whom, and that the documents speak of what is there.

mod every_member_has_its_paragraph;
mod the_arrows_point_one_way;
mod the_config_reference_is_the_types;
mod workspace;
