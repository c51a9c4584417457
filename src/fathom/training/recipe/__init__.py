"""Recipes: what is trained, on what, how."""

from fathom.training.recipe.recipe import Recipe as Recipe
from fathom.training.recipe.recipe import from_table as from_table
from fathom.training.recipe.recipe import load_recipe as load_recipe
from fathom.training.recipe.recipe import recipe_names as recipe_names
from fathom.training.recipe.sections import LOSS_TERMS as LOSS_TERMS
from fathom.training.recipe.sections import AugmentSection as AugmentSection
from fathom.training.recipe.sections import LossSection as LossSection
from fathom.training.recipe.sections import OptimSection as OptimSection
from fathom.training.recipe.sections import ScheduleSection as ScheduleSection
